"""What the web page (app.py) shows, as HTML: an answer's tokens, the spectrogram, messages. Needs no Gradio."""

import base64
import html
import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.image import imsave
from transformers import WhisperFeatureExtractor

from serving.live_answer import MASK, SURE, UNSURE, AnswerToken, LiveAnswer, count
from serving.session import Exchange
from src.audio import Window, log_mel
from src.configuration_DIFFA import SAMPLE_RATE

matplotlib.use("Agg")
COLOURS = "magma"  # evenly brighter with loudness, also in black and white
UNWRITTEN = AnswerToken("", 0.0, masked=True)
LEVELS = ("sure", "fair", "unsure")  # classes of the style sheet
NO_ANSWER = '<p class="small">The answer appears here while it is written.</p>'
# Buttons that copy; and sound in files that browsers call video (WebM, MP4), which Gradio's component would refuse.
SCRIPT = """<script>
document.addEventListener("click", async event => {
  const button = event.target.closest("button.copy")
  if (!button) return
  const area = document.createElement("textarea")
  area.value = button.dataset.text
  if (window.isSecureContext) await navigator.clipboard.writeText(area.value)
  else {  // plain http from another machine
    document.body.append(area)
    area.select()
    document.execCommand("copy")
    area.remove()
  }
  const label = button.textContent
  button.textContent = "Copied"
  setTimeout(() => { button.textContent = label }, 1500)
})
const asAudio = files => {
  const transfer = new DataTransfer()
  for (const file of files) {
    transfer.items.add(new File([file], file.name, {type: file.type.replace("video/", "audio/")}))
  }
  return transfer.files
}
const isVideo = file => file.type.startsWith("video/")
document.addEventListener("change", event => {
  const input = event.target
  if (input.type === "file" && [...input.files].some(isVideo)) input.files = asAudio(input.files)
}, true)
document.addEventListener("drop", event => {
  const input = event.target.closest("#sound")?.querySelector("input[type=file]")
  if (!input || ![...event.dataTransfer.files].some(isVideo)) return
  event.preventDefault()
  event.stopPropagation()
  input.files = asAudio(event.dataTransfer.files)
  input.dispatchEvent(new Event("change", {bubbles: true}))
}, true)
</script>"""
NOTHING_HEARD = '<p class="small">The spectrogram of what was heard appears here.</p>'
CSS = """
footer { display: none !important }
#answer, #heard { padding-top: 1rem }
.answer { font-size: 1.35rem; line-height: 3.1rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
.token { position: relative; display: inline-block; line-height: 1.6rem; padding: 0 .25rem; border-radius: .25rem;
  white-space: pre; background: color-mix(in srgb, var(--color-accent) calc(var(--confidence, 0) * 40%), transparent) }
.answer .token[data-percent]::after { content: attr(data-percent); position: absolute; left: 50%; top: 2rem;
  transform: translateX(-50%); font: 400 .7rem/1 system-ui, sans-serif; color: var(--body-text-color-subdued) }
.sure { font-weight: 700; border-bottom: 2px solid }
.fair { border-bottom: 2px dashed }
.unsure { font-style: italic; border-bottom: 2px dotted }
.mask { color: var(--body-text-color-subdued); padding: 0 }
.asked { font-weight: 600; margin: 0; overflow-wrap: anywhere }
.asked::before { content: "? "; color: var(--body-text-color-subdued) }
.exchange { border-top: 1px solid var(--border-color-primary); padding: .5rem 0; overflow-wrap: anywhere }
.exchange:first-child { border-top: 0 }
.exchange p { margin: 0 0 .25rem; white-space: pre-wrap }
button.copy { font-size: .8rem; padding: .2rem .6rem; border: 1px solid var(--border-color-primary);
  border-radius: .25rem; background: var(--background-fill-secondary); color: var(--body-text-color); cursor: pointer }
.small { font-size: .85rem; color: var(--body-text-color-subdued); margin: .5rem 0 0 }
.legend { margin-top: 1rem; line-height: 1.9rem }
.legend > span { color: inherit; display: inline-block; margin-right: .75rem }
.message { margin: 0 0 .5rem; padding: .5rem .75rem; border-left: 4px solid; border-radius: .25rem;
  background: var(--background-fill-secondary); overflow-wrap: anywhere }
.message.error { border-color: #dc2626 }
.message.warning { border-color: #d97706 }
.message.note { border-color: #2563eb }
.spectrogram { display: grid; grid-template-columns: auto 1fr; gap: .2rem .4rem; font-size: .75rem;
  color: var(--body-text-color-subdued) }
.spectrogram img { width: 100%; height: 9rem; border-radius: .25rem; margin: 0 }
.spectrogram div { display: flex; justify-content: space-between }
.spectrogram .pitch { flex-direction: column; text-align: right }
.spectrogram .time { grid-column: 2 }
"""


def message(kind: str, text: str) -> str:
    """A message of the kind `error`, `warning` or `note`; `text` is not HTML. Errors are read out at once."""
    role = "alert" if kind == "error" else "note"
    return f'<p class="message {kind}" role="{role}"><b>{kind.capitalize()}:</b> {html.escape(text)}</p>'


def answer(draft: LiveAnswer, running: bool) -> str:
    """An answer as it stands, each token with its confidence, with a legend; `running` while more is to come."""
    tokens = "".join(token_span(token) for token in draft.tokens).lstrip()
    if not tokens:  # every place is an end token
        tokens = '<i class="small">(the answer is empty)</i>'
    return f'<p class="answer" role="status" aria-busy="{str(running).lower()}">{tokens}</p>{legend()}'


def asked(question: str) -> str:
    """The question above its answer."""
    return f'<p class="asked">{html.escape(question)}</p>'


def copy_button(text: str, label: str = "Copy") -> str:
    return f'<button type="button" class="copy" data-text="{html.escape(text)}">{html.escape(label)}</button>'


def history(exchanges: Sequence[Exchange]) -> str:
    """Questions and answers, the newest first; "" for none."""
    if not exchanges:
        return ""
    texts = [(exchange.question, reply(exchange)) for exchange in exchanges]
    entries = (
        f'<div class="exchange">{asked(question)}<p>{html.escape(text)}</p>{copy_button(text)}</div>'
        for question, text in reversed(texts)
    )
    everything = "\n\n".join(f"{question}\n{text}" for question, text in texts)
    return "".join(entries) + (copy_button(everything, "Copy all") if len(texts) > 1 else "")


def reply(exchange: Exchange) -> str:
    """An answer as text; of one that was stopped, what had been fixed by then."""
    text = exchange.answer.text.strip()
    return text or "(empty)" if exchange.is_whole else f"{text} (stopped)".strip()


def token_span(token: AnswerToken) -> str:
    """A token; the spaces before it stay outside of its frame. Nothing for an end token."""
    if token.masked:
        return f'<span class="token mask" title="not written yet">{MASK}</span>'
    text = token.text.lstrip()
    space = html.escape(token.text[: len(token.text) - len(text)])
    if not text:
        return space
    percent = f"{math.floor(100 * token.confidence)}%"  # 89.9 is not yet sure
    return (
        f'{space}<span class="token {level(token.confidence)}" style="--confidence: {token.confidence:.2f}" '
        f'data-percent="{percent}" title="{percent} sure">{html.escape(text)}</span>'
    )


def level(confidence: float) -> str:
    """The style of a token: one of LEVELS."""
    sure, fair, unsure = LEVELS
    return sure if confidence >= SURE else unsure if confidence < UNSURE else fair


def legend() -> str:
    """What the shades mean."""
    meanings = (
        ("sure", SURE, "bold", f"at least {SURE:.0%} sure"),
        ("fair", (SURE + UNSURE) / 2, "dashed", f"{UNSURE:.0%} to {SURE:.0%}"),
        ("unsure", UNSURE / 2, "italic, dotted", f"below {UNSURE:.0%}"),
    )
    samples = "".join(
        f'<span><span class="token {name}" style="--confidence: {shade}">{sample}</span> {meaning}</span> '
        for name, shade, sample, meaning in meanings
    )
    return (
        '<p class="small legend"><span>Numbers and shades say how sure the model was.</span> '
        f"{samples}<span>{MASK.strip()} not written yet</span></p>"
    )


def statistics(draft: LiveAnswer, seconds: float, is_whole: bool = True) -> str:
    """What an answer took; `seconds` of computing. End tokens, which come last, are not counted."""
    tokens = max((place for place, token in enumerate(draft.tokens, start=1) if token.text), default=0)
    stopped = "" if is_whole else "Stopped after "
    return (
        f'<p class="small statistics">{stopped}{seconds:.2f} s, {count(draft.forward_passes, "forward pass", "es")}, '
        f"{count(tokens, 'token', 's')}, {tokens / max(seconds, 1e-6):.1f} tokens/s</p>"
    )


def heard(name: str, window: Window, seconds: float, feature_extractor: WhisperFeatureExtractor) -> str:
    """What was heard of a recording of so many seconds: a warning if that is not all of it, and the spectrogram."""
    span = f"{window.start:.1f} to {window.end:.1f} s"
    warning = "".join(message("warning", f"{name}: {text}") for text in window.warnings)
    if not window.is_last or window.start:
        warning += message(
            "warning", f"{name} is {seconds:.1f} s long, and of it only {span} is heard: the encoder's window. "
            "Trim it to the part you mean, or ask.py --chunks answers for each window.",
        )  # fmt: skip
    return warning + spectrogram(window, feature_extractor) + (
        f'<p class="small">What was heard of {html.escape(name)}: {span}, one channel, {SAMPLE_RATE // 1000} kHz, as '
        f"log-mel of {feature_extractor.feature_size} bands. Bright is loud.</p>"
    )  # fmt: skip


def spectrogram(window: Window, feature_extractor: WhisperFeatureExtractor) -> str:
    """The log-mel that the encoder gets of a window, with its axes; as wide as the page."""
    middle = (window.start + window.end) / 2
    return (
        '<div class="spectrogram">'
        f'<div class="pitch"><span>{SAMPLE_RATE // 2000} kHz</span><span>0</span></div>'
        f'<img src="{picture(mel_of(window.waveform, feature_extractor))}" '
        f'alt="Spectrogram of {window.start:.1f} to {window.end:.1f} s">'
        f'<div class="time"><span>{window.start:.1f} s</span><span>{middle:.1f} s</span><span>{window.end:.1f} s</span>'
        "</div></div>"
    )


def mel_of(waveform: np.ndarray, feature_extractor: WhisperFeatureExtractor) -> np.ndarray:
    """The log-mel of a waveform without the padding behind it: float32 [n_mels, F], low bands first."""
    features, mask = log_mel(feature_extractor, [waveform])
    return features[0, :, : max(1, int(mask[0].sum()))].numpy()


def picture(mel: np.ndarray) -> str:
    """A log-mel [n_mels, F] as the address of a PNG that holds itself: a pixel a value, low bands at the bottom."""
    buffer = io.BytesIO()
    imsave(buffer, mel, format="png", cmap=COLOURS, origin="lower")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

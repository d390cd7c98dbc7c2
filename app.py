"""Ask DIFFA about sound on a web page.

    python app.py                              # the built-in miniature, at http://127.0.0.1:7860
    python app.py --model_path exp/stage2 --port 8000
    python app.py --preset exact --steps 16    # what the page's settings begin with

Needs `pip install -r requirements-app.txt`. Only this machine can open the page, unless --host says otherwise; browsers
give the microphone to other machines over https alone. Exit status: 0, or 2 (the page could not be opened).
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from src.errors import UserError, print_error, reports_user_errors
from src.flag_types import MAX_PORT, finite_number, text_flag, whole_number

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported: it reports to nobody
try:
    import gradio as gr
except ModuleNotFoundError as missing:
    print_error(f"the page needs Gradio ({missing}): pip install -r requirements-app.txt -c constraints.txt")
    sys.exit(2)

from demo.world import QUESTIONS
from serving import page
from serving.live_answer import LiveAnswer, live_answers
from serving.session import Session
from src.audio import AudioError, Window, first_window, window_seconds
from src.configuration_DIFFA import ROOT
from src.generation_options import PRESETS, GenerationOptions
from src.inference_flags import OptionError, add_decoding_flags, add_model_flags, options_of
from src.loading import DECODING_DEFAULTS, NOTICE, check_port, load_model
from src.modeling_DIFFA import DIFFAModel
from src.text_faults import faults_of

EXAMPLES = {  # clip in examples/ -> a question that fits
    "clip.wav": "Which colour is named?",
    "sheep.flac": "Which animal is named?",
    "siren.flac": "Which sound is it?",
    "melody.mp3": "How does the melody move?",
    "story.ogg": "Which colour is named?",
}
SETTINGS = {  # flag -> label, and what it does
    "steps": ("Steps", "forward passes for the whole answer; fast and fastest take as many as they need instead"),
    "block_length": ("Block length", "tokens worked on together; blocks are written from left to right"),
    "max_new_tokens": ("Length (max_new_tokens)", "tokens an answer has room for; what is left over stays empty"),
    "temperature": ("Temperature", "0 takes the likeliest token; the higher, the more is left to chance"),
    "cfg_scale": ("Guidance (cfg_scale)", "0: off; the higher, the closer to the question, at twice the time"),
}
PRESET_MEANING = (
    "exact: the published algorithm. fast: all tokens that are at least 90 % sure at once. fastest: also less sure "
    "ones, on a cache; answers may differ a little. fast_dllm: the published fast mode of DIFFA-2."
)
MAX_ANSWER_TOKENS, MAX_QUESTION_CHARACTERS = 512, 1000  # tokens; characters
STEP_SECONDS = 0.1  # a step stays at least as long on the page, for the eye
KEEP_SECONDS = 3600  # sound that nobody asks about, and what is remembered of a page that was left
MAX_SESSIONS = 100  # that are remembered, a window of sound each
INTERNAL_ERROR = "something went wrong here, not with your sound or question; the server's log says what"
log = logging.getLogger("app")


@dataclass(frozen=True)
class UploadedClip:
    """Sound that came in. `file` is deleted when the first answer about it is finished; the window stays."""

    file: Path
    written: int = 0  # when, in nanoseconds: the same sound uploaded by somebody else takes the file's place
    window: Window | None = None  # what was heard; None: nothing could be
    seconds: float = 0.0  # of the whole recording


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    server = parser.add_argument_group("page")
    server.add_argument(
        "--host", type=text_flag, default="127.0.0.1", help="address to listen at; 0.0.0.0: all (default: %(default)s)"
    )
    server.add_argument("--port", type=whole_number(0, MAX_PORT), default=7860, help="(default: %(default)s)")
    server.add_argument("--max_queue", type=int, default=16, help="what may wait (default: %(default)s)")
    server.add_argument("--max_megabytes", type=int, default=25, help="of an upload (default: %(default)s)")
    server.add_argument("--max_seconds", type=finite_number, default=600, help="of an upload (default: %(default)s)")
    add_model_flags(parser, default="the built-in miniature")
    add_decoding_flags(parser, **DECODING_DEFAULTS)
    parser.set_defaults(seed=None)  # asked again with a temperature, it may answer otherwise
    return parser


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as after Ctrl+C, uploads are deleted
    if args.model_path is None:
        print(f"note: {NOTICE}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="diffa-app-") as uploads:
        check_limits(args)
        settings_of(args, {})
        check_port(args.host, args.port)
        blocks = open_page(load_model(args), args, Path(uploads).resolve())
        print(f"DIFFA listens at http://{args.host}:{args.port} (Ctrl+C ends it)", flush=True)
        blocks.block_thread()
    return 0


def check_limits(args: argparse.Namespace) -> None:
    """Raises OptionError for a limit that would let nothing through."""
    for name in ("max_queue", "max_megabytes", "max_seconds"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} is {getattr(args, name)}; it must be at least 1")


def open_page(model: DIFFAModel, args: argparse.Namespace, uploads: Path) -> gr.Blocks:
    """Serve the page from a thread; uploads go to the folder `uploads`. Raises OptionError where the port is taken."""
    warnings.filterwarnings("ignore", "'HTTP_422")  # Gradio's, about Starlette's names
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # read when components are made
    gr.set_static_paths([ROOT / "examples" / clip for clip in EXAMPLES])  # served as they are, not copied
    blocks = build_page(model, args, uploads)
    blocks.queue(max_size=args.max_queue, default_concurrency_limit=1)
    try:
        blocks.launch(
            server_name=args.host, server_port=args.port, share=False, prevent_thread_lock=True, quiet=True,
            show_error=False, max_file_size=args.max_megabytes * 2**20, state_session_capacity=MAX_SESSIONS,
            ssr_mode=False, footer_links=[], css=page.CSS, head=page.SCRIPT, theme=make_theme(),
        )  # fmt: skip
    except OSError as error:
        raise OptionError(error) from None
    return blocks


# -- what happens ---------------------------------------------------------------------------------------------------


def load_clip(file: Path, args: argparse.Namespace, seconds: float) -> UploadedClip:
    """Decode the first window, of so many seconds. Raises AudioError, also for what is beyond the limits."""
    try:
        window, length = first_window(file, seconds, args.max_seconds)
        return UploadedClip(file, file.stat().st_mtime_ns, window, length)
    except AudioError as error:
        raise AudioError(str(error).replace(str(file), file.name)) from None  # the page shows no paths


def settings_of(args: argparse.Namespace, settings: dict[str, Any]) -> GenerationOptions:
    """How to decode: the flags, with the page's settings in their place. Raises OptionError."""
    settings = {name: getattr(args, name) for name in SETTINGS} | settings
    for name, (label, _) in SETTINGS.items():
        if settings[name] is None:
            raise OptionError(f"{label} is empty; give a number")
    for name in ("steps", "block_length", "max_new_tokens"):
        if settings[name] > MAX_ANSWER_TOKENS:
            raise OptionError(f"{name} is {settings[name]}; it must be at most {MAX_ANSWER_TOKENS}")
    return options_of(argparse.Namespace(**vars(args) | settings))


def answer(
    model: DIFFAModel,
    clip: UploadedClip | None,
    question: str,
    options: GenerationOptions,
    goes_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[LiveAnswer, str]]:
    """The answer and its HTML: masks at once, then every step, at last with what it took.

    It ends where it is as soon as it does not go on. Raises OptionError.
    """
    question = question.strip()
    if clip is None or clip.window is None:
        raise OptionError(
            "no sound yet: upload a file (again, if the page was busy), record, or take an example, and wait until it "
            "is heard"
        )
    if not 0 < len(question) <= MAX_QUESTION_CHARACTERS:
        raise OptionError(f"a question of 1 to {MAX_QUESTION_CHARACTERS} characters is expected, found {len(question)}")
    for fault in faults_of(question):
        raise OptionError(f"the question {fault}")
    draft = LiveAnswer((page.UNWRITTEN,) * options.max_new_tokens, 0)
    yield draft, page.answer(draft, running=True)
    time.sleep(STEP_SECONDS)
    seconds, clock = 0.0, time.perf_counter()
    with contextlib.closing(live_answers(model, clip.window.waveform, question, options)) as steps:
        for step in steps:
            if not goes_on():
                break
            draft = step
            took = time.perf_counter() - clock
            seconds += took
            yield draft, page.answer(draft, running=True)
            time.sleep(max(0.0, STEP_SECONDS - took))
            clock = time.perf_counter()
    copy = page.copy_button(draft.text.strip())
    yield draft, page.answer(draft, running=False) + page.statistics(draft, seconds, goes_on()) + copy


def delete_upload(clip: UploadedClip, uploads: Path) -> None:
    """Delete an uploaded file and the folder it came in; examples stay, and what others have uploaded since."""
    with contextlib.suppress(OSError):  # it is gone already, or another one came in the same folder
        if uploads in clip.file.parents and clip.written in (0, clip.file.stat().st_mtime_ns):
            clip.file.unlink()
            clip.file.parent.rmdir()


@contextlib.contextmanager
def explained() -> Iterator[list[str]]:
    """Errors become a message, the one item of the list; those that nobody foresaw go to the log."""
    messages: list[str] = []
    try:
        yield messages
    except UserError as error:
        messages.append(page.message("error", str(error)))
    except Exception:
        log.exception("the page met an error")
        messages.append(page.message("error", INTERNAL_ERROR))


def refuse_urls(sound: gr.Audio) -> None:
    """Let a component take uploads alone: Gradio also fetches an address that a client sends in place of one.

    (A subclass would do, but Gradio writes a stub file beside its module.)
    """
    take = sound.async_move_resource_to_block_cache

    async def take_upload(url_or_file_path: str | Path | None) -> str | None:
        if str(url_or_file_path or "").lower().startswith(("http:", "https:")):
            raise gr.Error("upload a file: addresses are not fetched")
        return await take(url_or_file_path)

    sound.async_move_resource_to_block_cache = take_upload


# -- the page -------------------------------------------------------------------------------------------------------


def make_theme() -> gr.themes.Base:
    """Gradio's own, in colours with more contrast, and with the system's fonts: nothing comes from another host."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    return gr.themes.Default(primary_hue="indigo", **fonts).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
    )


def build_page(model: DIFFAModel, args: argparse.Namespace, uploads: Path) -> gr.Blocks:
    """The page's parts, and what each event calls."""

    def on_sound(path: str | None, before: UploadedClip | None, session: Session) -> tuple:
        if before and str(before.file) != path:
            delete_upload(before, uploads)
        session.restart()
        nothing = page.NO_ANSWER, gr.HTML("", visible=False)
        if path is None:
            return None, page.NOTHING_HEARD, *nothing
        clip = UploadedClip(Path(path))
        with explained() as messages:
            clip = load_clip(clip.file, args, window_seconds(model.feature_extractor))
            shown = page.heard(clip.file.name, clip.window, clip.seconds, model.feature_extractor)
            return clip, shown, *nothing
        return clip, messages[0], *nothing

    def on_answer(session: Session, clip: UploadedClip | None, preset: str, *numbers: float) -> Iterator[tuple]:
        turn = session.begin()
        if turn is None:  # stopped while it waited, or answered by the event before
            yield gr.skip(), gr.skip()
            return
        earlier, draft = page.history(session.exchanges), None
        earlier = gr.HTML(earlier, visible=bool(earlier))
        heading = page.asked(turn.question.strip())
        try:
            with explained() as messages:
                options = settings_of(args, {"preset": preset} | dict(zip(SETTINGS, numbers, strict=True)))
                steps = answer(model, clip, turn.question, options, partial(session.goes_on, turn))
                for draft, shown in steps:  # noqa: B007 (the last one is kept)
                    if session.is_about_the_clip(turn):
                        yield heading + shown, earlier
        finally:  # also when the page is left meanwhile
            if draft and not messages:
                session.finish(turn, draft)
            if clip:
                delete_upload(clip, uploads)
        for message in messages:
            yield heading + message, earlier

    def on_example(name: str) -> tuple[str, str]:
        return str(ROOT / "examples" / name), EXAMPLES[name]

    with gr.Blocks(title="DIFFA", analytics_enabled=False, delete_cache=(KEEP_SECONDS // 6, KEEP_SECONDS)) as blocks:
        gr.Markdown("# DIFFA\nAsk about sound. The answer comes by diffusion: its masks turn into words, surest first.")
        if args.model_path is None:
            gr.HTML(page.message("note", f"{NOTICE}. The questions stand below."))
        session = gr.State(Session())
        clip = gr.State(None, time_to_live=KEEP_SECONDS, delete_callback=lambda c: c and delete_upload(c, uploads))
        gr.Markdown("Upload or record something, or take an example:")
        with gr.Row():
            examples = {name: gr.Button(f"{name}: {EXAMPLES[name]}", size="sm", min_width=150) for name in EXAMPLES}
        with gr.Row():
            with gr.Column(min_width=300):
                sound = gr.Audio(
                    label="Sound", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="sound"
                )
                refuse_urls(sound)
                question = gr.Textbox(label="Question", info="Enter asks", max_length=MAX_QUESTION_CHARACTERS)
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", min_width=80)
                    stop = gr.Button("Stop", min_width=80)
                    again = gr.Button("Again", min_width=80)
            with gr.Column(min_width=300):
                frame = {"show_label": True, "container": True}
                shown_answer = gr.HTML(page.NO_ANSWER, label="Answer", elem_id="answer", **frame)
                shown_history = gr.HTML("", label="Earlier questions", elem_id="history", visible=False, **frame)
                shown_sound = gr.HTML(page.NOTHING_HEARD, label="Heard", elem_id="heard", **frame)
        with gr.Accordion("Settings", open=False):
            settings = [gr.Radio(list(PRESETS), value=args.preset, label="Preset", info=PRESET_MEANING)]
            with gr.Row():
                for name, (label, meaning) in SETTINGS.items():
                    value = getattr(args, name)
                    precision = 0 if isinstance(value, int) else None
                    settings.append(gr.Number(value, label=label, info=meaning, precision=precision, min_width=140))
        if args.model_path is None:
            with gr.Accordion("What the miniature can be asked", open=False):
                gr.Markdown("\n".join(f"- {known}" for known in QUESTIONS.values()))

        private = {"api_visibility": "private", "show_progress": "minimal"}
        sound.change(on_sound, [sound, clip, session], [clip, shown_sound, shown_answer, shown_history], **private)
        for name, button in examples.items():
            button.click(partial(on_example, name), None, [sound, question], queue=False, **private)
        at_once = private | {"queue": False, "trigger_mode": "multiple"}
        asked = gr.on([ask.click, question.submit], Session.ask, [session, question], None, **at_once)
        asked_again = again.click(lambda session: session.ask(session.last_question), session, None, **at_once)
        for event in (asked, asked_again):  # both in one queue, whose first answer gives up where a newer one waits
            event.then(
                on_answer, [session, clip, *settings], [shown_answer, shown_history], concurrency_id="model",
                trigger_mode="multiple", **private,
            )  # fmt: skip
        stop.click(Session.stop, session, None, **at_once)
    return blocks


if __name__ == "__main__":
    sys.exit(main())

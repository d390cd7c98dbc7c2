import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from transformers import WhisperFeatureExtractor

from serving import page
from serving.live_answer import AnswerToken, LiveAnswer
from serving.session import Exchange
from src.audio import Window

FEATURES = WhisperFeatureExtractor()  # 80 bands, 30 s


def text_of(html: str) -> str:
    """What of HTML is text."""
    parts = []
    parser = HTMLParser()
    parser.handle_data = parts.append
    parser.feed(html)
    return "".join(parts)


def answer_text(html: str) -> str:
    return text_of(re.search(r'<p class="answer".*?</p>', html, flags=re.DOTALL)[0])


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16000)) / 16000).astype(np.float32)


# --- tokens --------------------------------------------------------------------------------------------------------


def test_an_answer_reads_as_its_text():
    tokens = [AnswerToken(text, 0.8, False) for text in (" the", " c", "at", "\n4 <", "> 3 &", "")]
    html = page.answer(LiveAnswer(tuple(tokens), 3), running=False)
    assert answer_text(html) == "the cat\n4 <> 3 &"
    assert 'aria-busy="false"' in html


def test_masks_show_and_end_tokens_do_not():
    tokens = (AnswerToken(" cat", 0.95, False), page.UNWRITTEN, page.UNWRITTEN, AnswerToken("", 0.99, False))
    html = page.answer(LiveAnswer(tokens, 1), running=True)
    assert answer_text(html) == "cat ░ ░"
    assert 'aria-busy="true"' in html


def test_an_answer_of_end_tokens_alone_says_so():
    html = page.answer(LiveAnswer((AnswerToken("", 0.99, False),), 1), running=False)
    assert answer_text(html) == "(the answer is empty)"


@pytest.mark.parametrize(
    ("confidence", "level", "percent"),
    [(1.0, "sure", "100%"), (0.9, "sure", "90%"), (0.899, "fair", "89%"), (0.5, "fair", "50%"), (0.4, "unsure", "40%")],
)
def test_confidence_is_a_style_a_shade_and_a_number(confidence, level, percent):
    html = page.token_span(AnswerToken(" cat", confidence, False))
    assert f'class="token {level}"' in html and f'data-percent="{percent}"' in html
    assert f"--confidence: {confidence:.2f}" in html
    assert html.startswith(" <span") and html.endswith(">cat</span>")  # the space stays outside of the frame


def test_every_style_differs_by_more_than_colour_and_is_in_the_legend():
    styles = {name: re.search(rf"^\.{name} {{ (.*) }}$", page.CSS, flags=re.MULTILINE)[1] for name in page.LEVELS}
    borders = [re.search(r"border-bottom: 2px (\w+)", style)[1] for style in styles.values()]
    assert len(set(borders)) == 3
    assert text_of(page.legend()) == (
        "Numbers and shades say how sure the model was. "
        "bold at least 90% sure dashed 50% to 90% italic, dotted below 50% ░ not written yet"
    )


def test_what_comes_from_outside_is_escaped():
    evil = "<script>alert('x')</script>"
    token = page.token_span(AnswerToken(evil, 0.7, False))
    shown = page.heard(evil, Window(tone(440), 0.0, False), 65.0, FEATURES)
    for html in (token, shown, page.message("error", evil)):
        assert "<script" not in html
        assert evil in text_of(html)


def test_statistics_count_words_and_computing_time():
    first_bytes = AnswerToken("", 0.9, False)  # of a character that the next token completes
    tokens = (first_bytes, AnswerToken(" 猫", 0.9, False), AnswerToken("", 0.9, False))
    assert text_of(page.statistics(LiveAnswer(tokens, 5), 0.5)) == "0.50 s, 5 forward passes, 2 tokens, 4.0 tokens/s"
    assert text_of(page.statistics(LiveAnswer(tokens[1:], 1), 2.0)) == "2.00 s, 1 forward pass, 1 token, 0.5 tokens/s"


def test_only_errors_are_alerts():
    assert 'role="alert"' in page.message("error", "no")
    assert 'role="alert"' not in page.message("warning", "long") + page.message("note", "so")
    assert text_of(page.message("warning", "long")) == "Warning: long"


# --- questions and answers -----------------------------------------------------------------------------------------


def exchange(question, text, is_whole=True):
    return Exchange(question, LiveAnswer((AnswerToken(text, 0.9, False), page.UNWRITTEN), 1), is_whole)


def test_earlier_questions_stand_with_their_answers_and_can_be_copied():
    assert page.history([]) == ""
    html = page.history([exchange("a <b>?", " one"), exchange("c?", "two", is_whole=False), exchange("d?", "")])
    assert text_of(html) == "d?(empty)Copyc?two (stopped)Copya <b>?oneCopyCopy all"
    assert re.findall('data-text="([^"]*)"', html) == [
        "(empty)", "two (stopped)", "one", "a &lt;b&gt;?\none\n\nc?\ntwo (stopped)\n\nd?\n(empty)",
    ]  # fmt: skip
    assert "Copy all" not in page.history([exchange("a?", "one")])


def test_what_is_copied_is_text():
    assert page.copy_button('"<b>') == '<button type="button" class="copy" data-text="&quot;&lt;b&gt;">Copy</button>'
    assert page.asked("<b>") == '<p class="asked">&lt;b&gt;</p>'


# --- sound ---------------------------------------------------------------------------------------------------------


def test_the_log_mel_ends_with_the_sound():
    assert page.mel_of(tone(440), FEATURES).shape == (80, 100)  # 10 ms a frame
    assert page.mel_of(tone(440, 30.0), FEATURES).shape == (80, 3000)
    assert page.mel_of(tone(440, 0.001), FEATURES).shape == (80, 1)


def test_low_tones_are_at_the_bottom_and_loud_is_bright():
    def brightest_row(hertz: float) -> int:
        address = page.picture(page.mel_of(tone(hertz), FEATURES))
        kind, _, content = address.partition(",")
        assert kind == "data:image/png;base64"
        pixels = imread(io.BytesIO(base64.b64decode(content)))  # [rows, columns, 4], the first row on top
        assert pixels.shape == (80, 100, 4)
        return int(pixels[:, 50, :3].sum(axis=-1).argmax())

    assert brightest_row(200) > 70 > brightest_row(2000) > brightest_row(6000)


def test_a_whole_recording_has_no_warning():
    html = page.heard("clip.wav", Window(tone(440, 2.0), 0.0, True), 2.0, FEATURES)
    assert "Warning" not in html
    assert text_of(html) == (
        "8 kHz0" "0.0 s1.0 s2.0 s" "What was heard of clip.wav: 0.0 to 2.0 s, one channel, 16 kHz, as log-mel of 80 "
        "bands. Bright is loud."
    )  # fmt: skip


@pytest.mark.parametrize(("window", "span"), [
    (Window(tone(440, 30.0), 0.0, False), "0.0 to 30.0 s"),
    (Window(tone(440, 5.0), 60.0, True), "60.0 to 65.0 s"),  # what was before is silent
])  # fmt: skip
def test_of_a_long_recording_the_page_says_what_is_heard(window, span):
    html = page.heard("talk.mp3", window, 65.0, FEATURES)
    assert f"Warning: talk.mp3 is 65.0 s long, and of it only {span} is heard" in text_of(html)

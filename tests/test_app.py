import asyncio
import html
import logging
import os
import shutil
import socket

import gradio
import numpy as np
import pytest
import soundfile

import app
import ask
from serving import page
from src.audio import AudioError, read_audio
from src.generation_options import GenerationOptions
from src.inference_flags import OptionError, options_of
from tests.conftest import GOLDEN
from tests.serving.test_page import answer_text, text_of

QUESTION = "What can you hear from the audio?"
SHORT = GenerationOptions(4, 4, 4)
FLAGS = app.make_parser().parse_args([])


@pytest.fixture
def uploads(tmp_path):
    return tmp_path / "uploads"


@pytest.fixture
def upload(uploads):
    """A golden clip as Gradio leaves it: in a folder named by its hash."""
    file = uploads / "0123abcd" / "clip.wav"
    file.parent.mkdir(parents=True)
    shutil.copy(GOLDEN / "clip0.wav", file)
    return file


def long_clip(path, seconds: float):
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, int(seconds * 8000)), 8000)
    return path


# --- flags and settings --------------------------------------------------------------------------------------------


def test_it_listens_to_this_machine_alone_and_decodes_as_ask_does():
    assert (FLAGS.host, FLAGS.model_path) == ("127.0.0.1", None)
    asked = ask.make_parser().parse_args(["clip.wav", QUESTION])
    asked.seed = None
    assert app.settings_of(FLAGS, {}) == options_of(asked)


def test_the_settings_of_the_page_win_over_the_flags():
    flags = app.make_parser().parse_args(["--steps", "4", "--remasking", "random", "--preset", "exact"])
    settings = {"steps": 8, "block_length": 8, "max_new_tokens": 8, "temperature": 0.5, "cfg_scale": 1}
    expected = GenerationOptions(**settings, remasking="random")
    assert app.settings_of(flags, settings | {"preset": "exact"}) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 20}, "block_length 16 does not divide max_new_tokens 20; nearest that do: 10 and 20"),
        ({"preset": "exact", "steps": 5}, "steps 5 cannot be shared evenly over 4 blocks .*nearest that can: 4 and 8"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"temperature": -1}, "temperature is -1; it must not be negative"),
        ({"temperature": None}, "Temperature is empty; give a number"),
        ({"max_new_tokens": 1024}, "max_new_tokens is 1024; it must be at most 512"),
        ({"preset": "exact", "steps": 10**12 + 1}, "steps is 1000000000001; it must be at most 512"),
    ],
)
def test_settings_that_do_not_fit_together_say_which_and_what_would(settings, message):
    with pytest.raises(OptionError, match=message):
        app.settings_of(FLAGS, settings)


def test_every_setting_is_a_flag_and_says_what_it_does():
    assert set(app.SETTINGS) < set(vars(FLAGS))
    assert all(len(meaning) > 30 for _, meaning in app.SETTINGS.values())
    assert all(f"{preset}:" in app.PRESET_MEANING for preset in app.PRESETS)


# --- hearing -------------------------------------------------------------------------------------------------------


def test_a_clip_is_heard_as_read_audio_reads_it(upload):
    clip = app.load_clip(upload, FLAGS, 30.0)
    np.testing.assert_array_equal(clip.window.waveform, read_audio(GOLDEN / "clip0.wav"))
    assert (clip.file, clip.window.is_last, clip.seconds) == (upload, True, pytest.approx(0.8))


def test_of_long_sound_the_first_window_is_heard(tmp_path):
    clip = app.load_clip(long_clip(tmp_path / "long.wav", 65), FLAGS, 30.0)
    assert (clip.window.end, clip.window.is_last, clip.seconds) == (30, False, 65)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is not audio\n", r"^notes\.wav: not readable as audio \(its format is not known"),
        (b"", r"^notes\.wav: the file is empty"),
    ],
)
def test_what_is_no_sound_is_named_without_its_path(upload, content, message):
    file = upload.with_name("notes.wav")
    file.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        app.load_clip(file, FLAGS, 30.0)
    assert str(file.parent) not in str(caught.value)


def test_too_long_sound_is_refused(tmp_path):
    flags = app.make_parser().parse_args(["--max_seconds", "60"])
    with pytest.raises(AudioError, match=r"^long\.wav: is 65 s long; at most 60 s are taken, cut it$"):
        app.load_clip(long_clip(tmp_path / "long.wav", 65), flags, 30.0)


def test_uploads_are_deleted_and_examples_stay(upload, uploads):
    other = upload.with_name("same.wav")
    shutil.copy(upload, other)
    app.delete_upload(app.UploadedClip(upload), uploads)
    assert not upload.exists() and other.exists()
    app.delete_upload(app.UploadedClip(other), uploads)
    app.delete_upload(app.UploadedClip(other), uploads)
    assert list(uploads.iterdir()) == []
    example = app.ROOT / "examples" / "clip.wav"
    app.delete_upload(app.UploadedClip(example), uploads)
    assert example.exists()


def test_the_same_sound_uploaded_by_somebody_else_stays(upload, uploads):
    clip = app.load_clip(upload, FLAGS, 30.0)
    os.utime(upload, ns=(0, clip.written + 1))  # Gradio stores it at the same place
    app.delete_upload(clip, uploads)
    assert upload.exists()
    app.delete_upload(app.load_clip(upload, FLAGS, 30.0), uploads)
    assert not upload.exists()


def test_addresses_are_not_fetched_in_place_of_uploads(monkeypatch):
    fetched = []
    monkeypatch.setattr(gradio.processing_utils, "async_ssrf_protected_download", lambda *a, **_: fetched.append(a))
    sound = gradio.Audio()
    app.refuse_urls(sound)
    with pytest.raises(gradio.Error, match="addresses are not fetched"):
        asyncio.run(sound.async_move_resource_to_block_cache("HTTPS://example.org/a.wav"))
    assert fetched == []


# --- answering -----------------------------------------------------------------------------------------------------


def test_the_answer_comes_step_by_step_and_is_what_generate_gives(model, upload, monkeypatch):
    monkeypatch.setattr(app, "STEP_SECONDS", 0)
    clip = app.load_clip(upload, FLAGS, 30.0)
    drafts, steps = zip(*app.answer(model, clip, f" {QUESTION} ", SHORT), strict=True)
    [expected] = model.generate([clip.window.waveform], [QUESTION], SHORT)
    assert [answer_text(step).count("░") for step in steps] == [4, 3, 2, 1, 0, 0]
    assert answer_text(steps[-1]) == drafts[-1].text.strip() == expected.strip()
    assert f'data-text="{html.escape(expected.strip())}"' in steps[-1]
    assert ['aria-busy="true"' in step for step in steps] == [True] * 5 + [False]
    assert [", 4 forward passes, " in step for step in steps] == [False] * 5 + [True]


def test_an_answer_that_is_not_wanted_any_more_ends_where_it_is(model, upload, monkeypatch):
    monkeypatch.setattr(app, "STEP_SECONDS", 0)
    clip = app.load_clip(upload, FLAGS, 30.0)
    wanted = iter([True, True, False, False])
    *_, (draft, last) = app.answer(model, clip, QUESTION, SHORT, lambda: next(wanted))
    assert (draft.forward_passes, answer_text(last).count("░")) == (2, 2)
    assert "Stopped after" in last and 'aria-busy="false"' in last


@pytest.mark.parametrize(
    ("clip", "question", "message"),
    [
        (None, QUESTION, "no sound yet: upload a file .*, record, or take an example"),
        (app.UploadedClip(GOLDEN / "notes.wav"), QUESTION, "no sound yet"),
        ("heard", "  ", "a question of 1 to 1000 characters is expected, found 0"),
        ("heard", "a" * 1001, "a question of 1 to 1000 characters is expected, found 1001"),
    ],
)
def test_what_cannot_be_asked_says_why(model, upload, clip, question, message):
    clip = app.load_clip(upload, FLAGS, 30.0) if clip == "heard" else clip
    with pytest.raises(OptionError, match=message):
        next(app.answer(model, clip, question, SHORT))


def test_errors_become_messages_and_unforeseen_ones_go_to_the_log(caplog):
    with app.explained() as messages:
        raise AudioError("a.wav: is silent")
    assert [text_of(message) for message in messages] == ["Error: a.wav: is silent"]
    assert caplog.records == []
    with caplog.at_level(logging.ERROR), app.explained() as messages:
        raise RuntimeError("secret/path")
    assert messages == [page.message("error", app.INTERNAL_ERROR)]
    assert "secret/path" in caplog.text


# --- the page and the script ---------------------------------------------------------------------------------------


def parts_of(blocks) -> dict[str, list[dict]]:
    """The page's components by kind, as the browser gets them."""
    found: dict[str, list[dict]] = {}
    for component in blocks.config["components"]:
        found.setdefault(component["type"], []).append(component["props"])
    return found


def test_the_page_offers_what_it_should(model, uploads):
    flags = app.make_parser().parse_args(["--preset", "exact", "--steps", "8"])
    blocks = app.build_page(model, flags, uploads)
    parts = parts_of(blocks)
    assert [(p["label"], p["value"]) for p in parts["radio"] + parts["number"]] == [
        ("Preset", "exact"), ("Steps", 8), ("Block length", 16), ("Length (max_new_tokens)", 64), ("Temperature", 0),
        ("Guidance (cfg_scale)", 0),
    ]  # fmt: skip
    assert [button["value"] for button in parts["button"]] == [
        *(f"{n}: {q}" for n, q in app.EXAMPLES.items()),
        "Ask",
        "Stop",
        "Again",
    ]
    assert all((app.ROOT / "examples" / name).is_file() for name in app.EXAMPLES)
    assert "the built-in miniature answers" in str(parts["html"]) and "Which sound is it?" in str(parts["markdown"])
    assert blocks.delete_cache and not blocks.analytics_enabled
    assert {event["api_visibility"] for event in blocks.config["dependencies"]} == {"private"}


def test_of_another_model_the_page_says_nothing_about_the_miniature(model, uploads):
    blocks = app.build_page(model, app.make_parser().parse_args(["--model_path", "exp/stage2"]), uploads)
    assert "miniature" not in str(blocks.config["components"])


@pytest.fixture
def quiet_signals(monkeypatch):
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_new_tokens", "20"], ": block_length 16 does not divide max_new_tokens 20"),
        (["--max_queue", "0"], ": --max_queue is 0; it must be at least 1"),
        (["--max_seconds", "0.5"], ": --max_seconds is 0.5; it must be at least 1"),
    ],
)
def test_flags_that_make_no_sense_end_it_before_the_model_loads(capsys, monkeypatch, quiet_signals, flags, message):
    monkeypatch.setattr(app, "load_model", lambda args: pytest.fail("loaded for nothing"))
    assert app.main(flags) == 2
    assert message in capsys.readouterr().err


def test_a_taken_port_is_named(capsys, monkeypatch, model, quiet_signals):
    monkeypatch.setattr(app, "load_model", lambda args: model)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert app.main(["--port", port]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and port in error

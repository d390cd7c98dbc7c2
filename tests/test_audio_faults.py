"""Files that go wrong elsewhere, each through every door that audio comes in by: the same sound, or the same words."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

import app
import ask
from evaluation.prefetch import new_readers, read_sounds
from serving.page import heard
from serving.protocol import RequestError
from serving.validation import Service, decode_audio
from src.audio import AudioError, inspect_audio, read_audio, read_windows
from src.dataloader import DIFFADataset
from src.manifest import Sample, write_manifest
from src.manifest_check import Limits, check_manifest
from tests.conftest import GOLDEN

FAULTS = Path(__file__).parent / "faults"
SCALED = "its floating-point samples are on the scale of integers, up to 32768 in place of 1, and were divided"
SECONDS = {  # that are heard, and what is said of it
    "vbr_speech_x6_None.mp3": (11.16, ""),  # variable bit rate, no Info frame
    "vbr_silence_then_speech_0.5.mp3": (10.332, ""),
    "id3_then_zeros.mp3": (1.845875, ""),  # zeros between the tag and the first frame
    "ph_2e9.wav": (1.845875, ""),  # a recorder's placeholder for the length
    "ph_zero.wav": (1.845875, ""),
    "flac_unknown_length.flac": (1.845875, ""),
    "k_gsm.wav": (1.845875, ""),
    "int_scaled_float.wav": (1.845875, SCALED),
}
REFUSED = {
    "mp3_cut.mp3": r"the file is cut: 0\.90 s are left of the 1\.81 s that its header promises",
    "dc.wav": r"is silent \(its samples are a constant, 0\.5\)",
}
CLIP_INSTRUCTION = "What can you hear from the audio?"


def by_windows(path: Path, model) -> np.ndarray:
    [window] = read_windows(path, 30.0)
    return window.waveform


def by_page(path: Path, model) -> np.ndarray:
    return app.load_clip(path, app.make_parser().parse_args([]), 30.0).window.waveform


def by_server(path: Path, model) -> np.ndarray:
    data = base64.b64encode(path.read_bytes()).decode()
    service = Service(model, "diffa", "exact", {}, max_answer_tokens=64, max_seconds=60)
    try:
        return decode_audio(data, service)[0]
    except RequestError as error:
        raise AudioError(str(error)) from None


def by_benchmark(path: Path, model) -> np.ndarray:
    with new_readers() as readers:
        [found] = read_sounds([path], ["audio of item 1"], model.feature_extractor, readers).waveforms
    if isinstance(found, AudioError):
        raise found
    return found


def by_training(path: Path, model) -> np.ndarray:
    sample = Sample("a", path, CLIP_INSTRUCTION, "yes", "yes", "toy", 1.0, {})
    return DIFFADataset([sample], model.tokenizer)[0].waveform


DOORS = {
    "file": lambda path, model: read_audio(path),
    "bytes": lambda path, model: read_audio(path.read_bytes()),
    "windows": by_windows,
    "page": by_page,
    "server": by_server,
    "benchmark": by_benchmark,
    "training": by_training,
}


def test_every_file_has_its_test():
    assert {path.name for path in FAULTS.iterdir() if path.suffix in (".wav", ".mp3", ".flac")} == {*SECONDS, *REFUSED}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", SECONDS)
def test_all_of_it_is_heard(name, door, model):
    waveform = DOORS[door](FAULTS / name, model)
    assert len(waveform) / 16000 == pytest.approx(SECONDS[name][0], abs=1e-6)
    np.testing.assert_array_equal(waveform, read_audio(FAULTS / name))


@pytest.mark.parametrize("name", ["id3_then_zeros.mp3", "ph_2e9.wav", "ph_zero.wav", "flac_unknown_length.flac",
                                  "k_gsm.wav", "int_scaled_float.wav"])  # fmt: skip
def test_it_sounds_as_the_clip_that_it_was_made_of(name):
    clip = read_audio(Path(__file__).parent.parent / "examples" / "clip.wav")
    assert np.corrcoef(read_audio(FAULTS / name), clip)[0, 1] > 0.9


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_for_its_reason(name, door, model):
    with pytest.raises(AudioError, match=rf"^(input_audio|audio bytes|.*{re.escape(name)}): {REFUSED[name]}$"):
        DOORS[door](FAULTS / name, model)


def test_the_manifest_check_reports_what_is_odd_and_nothing_else(tmp_path):
    names = [*SECONDS, *REFUSED]
    entries = [
        {"audio_id": name, "audio_filepath": str(FAULTS / name), "input": "hello", "target": "yes",
         "transcription": "yes", "dataset": "toy", "duration": SECONDS.get(name, (0.9 if "cut" in name else 1.0,))[0]}
        for name in names
    ]  # fmt: skip
    write_manifest(tmp_path / "m.jsonl", entries)
    report = check_manifest(tmp_path / "m.jsonl", Limits())
    problems = {str(problem) for problem in report.problems}
    assert problems == {
        f"line 8, int_scaled_float.wav: {SCALED}",
        "line 9, mp3_cut.mp3: the file is cut: 0.90 s are left, the header promises 0.90 more",
        f"line 10, dc.wav: {FAULTS / 'dc.wav'}: is silent (its samples are a constant, 0.5)",
    }


@pytest.mark.parametrize("name", [name for name in SECONDS if inspect_audio(FAULTS / name).warnings])
def test_what_was_mended_is_said_by_every_door_that_speaks(name, model, monkeypatch, capsys, caplog):
    read_audio(FAULTS / name, name="x")
    assert caplog.messages == [f"{FAULTS / name}: {SCALED}"]
    clip = app.load_clip(FAULTS / name, app.make_parser().parse_args([]), 30.0)
    assert SCALED in heard(name, clip.window, clip.seconds, model.feature_extractor)
    service = Service(model, "diffa", "exact", {}, max_answer_tokens=64, max_seconds=60)
    data = base64.b64encode((FAULTS / name).read_bytes()).decode()
    assert decode_audio(data, service)[1] == (f"of the audio: {SCALED}",)
    monkeypatch.setattr(ask, "load_model", lambda args: model)
    settings = ["--preset", "exact", "--steps", "4", "--block_length", "4", "--max_new_tokens", "4"]
    assert ask.main([str(FAULTS / name), CLIP_INSTRUCTION, "--model_path", str(GOLDEN), *settings]) == 0
    assert capsys.readouterr().err == f"warning: {FAULTS / name}: {SCALED}\n"

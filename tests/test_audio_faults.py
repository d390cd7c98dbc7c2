"""Files that go wrong elsewhere, each through every door that audio comes in by: the same sound, or the same words.

At the end, hundreds that are damaged at random.
"""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

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
from tests.audio_files import sweep_file, tone
from tests.conftest import GOLDEN, in_time

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
    "mp3_cut.mp3": r"the file is cut: 0\.90 s are left of the 1\.81 s that its header promises; fetch it anew, or "
    "convert what is there to WAV",
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
    scaled, cut = capsys.readouterr().err.splitlines()
    assert scaled == f"warning: {FAULTS / name}: {SCALED}"
    assert re.fullmatch(rf"warning: .*{name}: of 0\.0-\S+ s the text is cut at 4 tokens; give .*", cut)


# --- damaged at random ---------------------------------------------------------------------------------------------


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of: cut, bits flipped anywhere, bits flipped in the header, bytes of the header zeroed, another header."""
    data = bytearray(content)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        for place in rng.integers(len(data), size=rng.integers(1, 60)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        for place in rng.integers(64, size=rng.integers(1, 6)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 3:
        start = rng.integers(64)
        data[start : start + rng.integers(1, 16)] = bytes(8)
    elif kind == 4:
        data[: rng.integers(4, 64)] = rng.choice(
            [b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"OggS", b"FORM", b"ID3\x04"]
        )
    else:
        data[rng.integers(len(data)) :] = bytes(rng.integers(256, size=rng.integers(400), dtype=np.uint8))
    return bytes(data)


def test_300_damaged_files_are_read_or_named(tmp_path):
    """Never another exception, a hang, or sound that is not finite; names lie, since some formats go by the name."""
    rng = np.random.default_rng(5)
    originals = []
    for suffix, subtype in (
        ("wav", "PCM_16"),
        ("wav", "FLOAT"),
        ("flac", None),
        ("ogg", None),
        ("mp3", None),
        ("aiff", None),
    ):
        soundfile.write(tmp_path / f"a.{suffix}", tone(0.3, 16000) + 0.1, 16000, subtype=subtype)
        originals.append((suffix, (tmp_path / f"a.{suffix}").read_bytes()))
    outcomes = {"read": 0, "refused": 0}
    for number in range(300):
        suffix, content = originals[number % len(originals)]
        if rng.random() < 0.2:
            suffix = rng.choice(["wav", "flac", "mp3", "ogg", "raw", "txt", "au", "gsm", "vox", "w64"])
        path = tmp_path / f"clip{number}.{suffix}"
        path.write_bytes(damage(content, rng))
        for use in (read_audio, inspect_audio):
            try:
                found = in_time(20, f"{use.__name__} of {path.name}", use, path)
                outcomes["read"] += 1
                if use is read_audio:
                    assert np.isfinite(found).all() and 0 < len(found) <= 480_000
                else:
                    assert found.seconds > 0 and found.missing_seconds >= 0
            except AudioError as error:
                assert str(path) in str(error)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 100  # both happen


def mutation(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """A valid file that was cut, that has junk behind it, or one to three changed bytes at its beginning."""
    kind = str(rng.choice(["cut", "padded", "header"]))
    if kind == "cut":
        return kind, content[: rng.integers(1, len(content))]
    if kind == "padded":
        size = int(rng.integers(1, len(content) // 2))
        return kind, content + (bytes(size) if rng.random() < 0.5 else rng.bytes(size))
    changed = bytearray(content)
    for place in rng.integers(64, size=rng.integers(1, 4)):
        changed[place] = rng.integers(256)
    return kind, bytes(changed)


def test_300_changed_files_in_eight_formats_have_their_length_or_are_named():
    """Cut, padded or with another header, a file lasts as long as it did, within 1 %, or the error names it."""
    rng = np.random.default_rng(11)
    formats = ("wav", "flac", "ogg", "opus", "mp3", "m4a", "webm", "aiff")
    files = {kind: sweep_file(kind) for kind in formats}
    refused = dict.fromkeys(("cut", "padded", "header"), 0)
    for number in range(300):
        format_ = formats[number % len(formats)]
        kind, content = mutation(files[format_], rng)
        name = f"{format_} {number} {kind}"
        try:
            seconds = len(in_time(20, name, read_audio, content, 30.0, name)) / 16000
            assert seconds == pytest.approx(3, rel=0.01), name
        except AudioError as error:
            assert str(error).startswith(f"{name}: ")
            refused[kind] += 1
    assert refused["padded"] == 0 and refused["cut"] > 90 and 30 < refused["header"] < 90


def test_200_changed_files_in_eight_formats_without_a_length_have_theirs_or_are_named():
    """As above; a damaged first frame may be lost, up to 72 ms. What is cut between two frames is whole."""
    rng = np.random.default_rng(12)
    formats = ("aac", "amr", "ac3", "mp2", "live", "fragments", "ts", "ps")
    files = {kind: sweep_file(kind, 7.5) for kind in formats}
    lengths = {kind: len(read_audio(content)) / 16000 for kind, content in files.items()}
    read = dict.fromkeys(("cut", "padded", "header"), 0)
    for number in range(200):
        format_ = formats[number % len(formats)]
        kind, content = mutation(files[format_], rng)
        name = f"{format_} {number} {kind}"
        try:
            seconds = len(in_time(20, name, read_audio, content, 30.0, name)) / 16000
            read[kind] += 1
            assert kind == "cut" or seconds == pytest.approx(lengths[format_], rel=0.01), name
        except AudioError as error:
            assert str(error).startswith(f"{name}: ")
    assert read["cut"] <= 3 and read["padded"] > 50 and read["header"] > 40

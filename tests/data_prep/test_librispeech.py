import numpy as np
import pytest
import soundfile

from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest
from tests.data_prep.corpora import attributes, librispeech, main, prepare, put_audio, put_text, read_into


def test_librispeech(tmp_path, capsys):
    samples = prepare("librispeech", tmp_path)
    assert list(samples) == ["19-198-0000", "19-198-0001", "60-121082-0000"]
    one = samples["19-198-0001"]
    assert one.target == one.transcription == "go do you hear 1" and one.input == "What can you hear from the audio?"
    assert one.duration == 0.6 and one.extra["speaker"] == "19" and one.dataset == "librispeech"
    assert one.audio_filepath == tmp_path / "librispeech/train-clean-100/19/198/19-198-0001.flac"
    assert attributes(samples)["60-121082-0000"] == {"gender": "male"} and attributes(samples)["19-198-0000"] == {
        "gender": "female"
    }
    told = capsys.readouterr().out
    assert "reading train-clean-100; leaving out dev-clean (--splits)" in told
    assert "librispeech.json: 3 clips, 0.00 hours, 2 speakers" in told
    assert list(prepare("librispeech", tmp_path, "--splits", "dev-clean")) == ["84-121123-0000"]


def test_librispeech_names_what_it_skips(tmp_path, capsys):
    root = tmp_path / "in" / "LibriSpeech"
    librispeech(root)
    chapter = root / "train-clean-100" / "19" / "198"
    put_audio(chapter / "19-198-0002.flac")  # no text
    put_audio(chapter / "19-198-0003.flac", 31)
    put_text(chapter / "19-198-0004.flac", "no sound")
    put_audio(chapter / "19-198-0005.flac", 0.01)
    soundfile.write(chapter / "19-198-0006.flac", np.zeros(16000), 16000)
    with (chapter / "19-198.trans.txt").open("a") as file:
        file.writelines(f"19-198-000{n} TEXT\n" for n in (3, 4, 5, 6, 7))
    output = tmp_path / "out" / "new" / "m.jsonl"
    assert main("librispeech", tmp_path / "in", output) == 0  # the folder that LibriSpeech lies in will do
    assert len(read_manifest(output)) == 3 and check_manifest(output, Limits()).problems == []
    skipped = dict(line.split(": ", 1) for line in (output.parent / "m.skipped.txt").read_text().splitlines())
    reasons = {
        "0002": "no text in", "0003": "lasts 31.00 s", "0004": "not readable as audio", "0005": "lasts 0.010 s",
        "0006": "is silent", "0007": "no ",
    }  # fmt: skip
    assert skipped.keys() == {f"19-198-{n}" for n in reasons}
    assert all(reason in skipped[f"19-198-{n}"] for n, reason in reasons.items())
    assert "6 clips skipped, all of them named in" in capsys.readouterr().out
    for n in reasons:
        (chapter / f"19-198-{n}.flac").unlink(missing_ok=True)
    put_text(chapter / "19-198.trans.txt", "19-198-0000 GO\n19-198-0001 ON\n")
    assert main("librispeech", tmp_path / "in", output) == 0
    assert not (output.parent / "m.skipped.txt").exists()  # the list of an earlier run is not left behind


@pytest.mark.parametrize("folder", ["", "LibriSpeech"])
def test_librispeech_archives_unpacked_apart_are_all_read(tmp_path, folder):
    """Each brings its own SPEAKERS.TXT."""
    for archive, split, reader in (("one", "train-clean-100", "19"), ("two", "train-other-500", "20")):
        root = tmp_path / "root" / archive / folder
        put_text(root / "SPEAKERS.TXT", f"{reader} | F | {split} | 25.19 | Somebody\n")
        put_audio(root / split / reader / "1" / f"{reader}-1-0000.flac")
        put_text(root / split / reader / "1" / f"{reader}-1.trans.txt", f"{reader}-1-0000 YES\n")
        put_text(root / split / reader / "1" / f"._{reader}-1.trans.txt", "of a Macintosh")
    samples = read_into(tmp_path, "librispeech", tmp_path / "root")
    assert [sample.audio_id for sample in samples] == ["19-1-0000", "20-1-0000"]
    assert [sample.extra["attributes"] for sample in samples] == [{"gender": "female"}] * 2
    assert not (tmp_path / "m.skipped.txt").exists()

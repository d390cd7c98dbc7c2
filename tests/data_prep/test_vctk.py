import shutil

import pytest

from src.manifest import read_manifest
from tests.data_prep.corpora import CORPORA, attributes, main, prepare, put_audio, put_text, read_into, vctk


def test_vctk(tmp_path):
    samples = prepare("vctk", tmp_path)
    assert attributes(samples) == {
        "p225_001": {"gender": "female", "age": 23, "accent": "English", "region": "Southern England"},
        "p225_002": {"gender": "female", "age": 23, "accent": "English", "region": "Southern England"},
        "p280_001": {"gender": "female", "age": 25, "region": "France"},
        "p335_001": {"gender": "female", "age": 25, "accent": "New Zealand", "region": "English"},
        "p376_295": {"gender": "male", "age": 22, "accent": "Indian"},
        "s5_001": {"gender": "male", "age": 24, "accent": "British"},
    }
    assert samples["p225_001"].target == "Please call Stella." and samples["p225_001"].duration == 0.5
    assert samples["p225_001"].audio_filepath.name == "p225_001_mic1.flac"


def test_vctk_in_its_earlier_version_and_with_texts_missing(tmp_path):
    root = tmp_path / "VCTK-Corpus"
    put_text(
        root / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION \n225  23  F    English    Southern  England\n"
    )
    put_audio(root / "wav48" / "p225" / "p225_001.wav", rate=48000)
    put_audio(root / "wav48" / "p315" / "p315_001.wav", rate=48000)
    put_text(root / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    assert main("vctk", tmp_path, tmp_path / "m.json") == 0
    (sample,) = read_manifest(tmp_path / "m.json")
    assert sample.extra["attributes"]["age"] == 23
    assert "p315_001: no text: " in (tmp_path / "m.skipped.txt").read_text()


def test_vctk_converted_to_wav(tmp_path, capsys):
    vctk(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*.flac"):
        put_audio(path.with_suffix(".wav"), rate=16000)
        path.with_name(f"._{path.stem}.wav").write_text("of a Macintosh")
        path.unlink()
    samples = read_into(tmp_path, "vctk", tmp_path / "root")
    assert len(samples) == 6 and samples[0].audio_filepath.name == "p225_001_mic1.wav"
    assert not (tmp_path / "m.skipped.txt").exists()
    assert "note: " not in capsys.readouterr().out  # the second microphone's files are left out on purpose
    shutil.copy(samples[0].audio_filepath, samples[0].audio_filepath.with_suffix(".flac"))
    assert len(read_into(tmp_path, "vctk", tmp_path / "root")) == 6
    assert "no text" not in (tmp_path / "m.skipped.txt").read_text()  # it is there twice, with one text


def test_a_text_that_nobody_wrote_is_no_target(tmp_path):
    CORPORA["vctk"](tmp_path / "vctk")
    (tmp_path / "vctk" / "txt" / "p225" / "p225_001.txt").write_bytes(b"Please call St\x81lla.\n")
    assert main("vctk", tmp_path / "vctk", tmp_path / "m.json") == 0
    assert (
        "p225_001: its text holds U+FFFD, which stands for bytes that were" in (tmp_path / "m.skipped.txt").read_text()
    )
    assert len(read_manifest(tmp_path / "m.json")) == 5


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_vctk_with_other_delimiters_keeps_its_attributes(tmp_path, delimiter, header):
    CORPORA["vctk"](tmp_path / "vctk")
    rows = [("ID", "AGE", "GENDER", "ACCENTS", "REGION", "COMMENTS")] * header
    rows += [
        ("p225", "23", "F", "English", '"Southern  England"', ""),
        ("p280", "25", "female", "Unknown", "France", "no"),
    ]
    put_text(tmp_path / "vctk" / "speaker-info.txt", "".join(f"{delimiter.join(row)}\n" for row in rows))
    assert main("vctk", tmp_path / "vctk", tmp_path / "m.json") == 0
    attributes = {sample.audio_id: sample.extra["attributes"] for sample in read_manifest(tmp_path / "m.json")}
    assert attributes["p225_001"] == {"gender": "female", "age": 23, "accent": "English", "region": "Southern England"}
    assert attributes["p280_001"] == {"gender": "female", "age": 25, "region": "France"}


def test_attributes_that_are_not_read_are_told(tmp_path, capsys):
    CORPORA["vctk"](tmp_path / "vctk")
    put_text(tmp_path / "vctk" / "speaker-info.txt", "ID  AGE  GENDER\np225/23/F/English\np280  ?  F\n")
    assert main("vctk", tmp_path / "vctk", tmp_path / "m.json") == 0
    told = capsys.readouterr().out
    assert "5 of 6 clips have no gender, the first: p225_001" in told
    assert "6 of 6 clips have no age, the first: p225_001" in told and "6 of 6 clips have no accent" in told

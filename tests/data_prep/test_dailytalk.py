import json

import pytest

from src.manifest import read_manifest
from tests.data_prep.corpora import CORPORA, attributes, dailytalk, main, prepare, put_audio, put_text, read_into


def test_dailytalk(tmp_path):
    samples = prepare("dailytalk", tmp_path)
    assert attributes(samples) == {
        "dailytalk-0-0": {"gender": "male", "emotion": "neutral", "act": "inform", "topic": "work"},
        "dailytalk-0-1": {"gender": "female", "emotion": "happy", "act": "inform", "topic": "work"},
        "dailytalk-12-0": {"gender": "male", "emotion": "sad", "act": "inform", "topic": "work"},
    }
    assert samples["dailytalk-12-0"].target == "i am late."
    assert samples["dailytalk-12-0"].audio_filepath.name == "0_0_d12.wav"


def test_dailytalk_converted_to_flac(tmp_path):
    dailytalk(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*.wav"):
        put_audio(path.with_suffix(".flac"))
        path.unlink()
    assert len(read_into(tmp_path, "dailytalk", tmp_path / "root")) == 3


def test_dailytalk_with_lists_and_numbers_in_its_fields(tmp_path, capsys):
    CORPORA["dailytalk"](tmp_path / "d")
    path = tmp_path / "d" / "metadata.json"
    dialogs = json.loads(path.read_text())
    dialogs["0"]["0"]["emotion"] = ["happiness", "surprise"]
    dialogs["0"]["1"] |= {"emotion": " Happiness ", "topic": {"a": 1}}
    dialogs["12"]["0"]["text"] = ["i", "am", "late"]
    path.write_text(json.dumps(dialogs))
    assert main("dailytalk", tmp_path / "d", tmp_path / "m.json") == 0
    attributes = {sample.audio_id: sample.extra["attributes"] for sample in read_manifest(tmp_path / "m.json")}
    assert attributes == {
        "dailytalk-0-0": {"gender": "male", "act": "inform", "topic": "work"},
        "dailytalk-0-1": {"gender": "female", "emotion": "happy", "act": "inform"},
    }
    told = capsys.readouterr().out
    assert "note: 2 attributes are no text, and left out, the first: dailytalk-0-0: emotion is ['happiness', " in told
    assert "1 of 2 clips have no emotion, the first: dailytalk-0-0" in told
    assert (
        "dailytalk-12-0: a text that is ['i', 'am', 'late'] in metadata.json"
        in (tmp_path / "m.skipped.txt").read_text()
    )


@pytest.mark.parametrize("content", ["[1]", '{"0": 3}', "{", '"x"', "[" * 100_000, '{"0": {"0": 7, "1": null}}'])
def test_metadata_of_dailytalk_that_is_something_else(tmp_path, capsys, content):
    put_text(tmp_path / "d" / "metadata.json", content)
    assert main("dailytalk", tmp_path / "d", tmp_path / "m.json") == 2
    error = capsys.readouterr().err
    assert "is not an object of dialogs" in error or "no usable clip, 2 left out" in error

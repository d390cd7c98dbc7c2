import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.corpus import CorpusClip, CorpusError, choose_groups, describe, path_from
from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest
from tests.data_prep.corpora import CORPORA, accentdb, main, prepare, put_audio, put_text, voxceleb1

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("corpus", ["voxceleb1", "accentdb"])
def test_transcripts_made_elsewhere_are_taken_over(tmp_path, capsys, corpus):
    """As inference_stage1_asr.py writes them from the manifest without: every field, and response."""
    names = list(prepare(corpus, tmp_path))
    transcripts = tmp_path / "asr.jsonl"
    records = [
        {"audio_id": names[0], "transcription": "", "response": " hello there "},
        {"audio_id": names[1], "transcription": "", "response": "", "error": "no audio"},
    ]
    transcripts.write_text("".join(json.dumps(record) + "\n" for record in records))
    samples = prepare(corpus, tmp_path, "--transcripts", transcripts)
    assert [samples[name].transcription for name in names] == ["hello there", "", ""]
    assert samples[names[0]].target == "hello there" and "transcribed" not in samples[names[0]].extra
    assert samples[names[1]].extra["transcribed"] is False
    for content, message in (
        ('{"audio_id": "other", "response": "x"}', "a response for none of the 3 clips"),
        ('{"response": "x"}', "line 1: no audio_id"),
        ("{oops", "line 1: not JSON"),
    ):
        transcripts.write_text(content + "\n")
        assert main(corpus, tmp_path / corpus, tmp_path / "m.json", "--transcripts", transcripts) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("corpus", "marker"),
    [
        ("librispeech", "SPEAKERS.TXT"), ("voxceleb1", "vox1_meta.csv"), ("accentdb", "data"), ("iemocap", "Session1"),
        ("dailytalk", "metadata.json"), ("vctk", "speaker-info.txt"),
    ],
)  # fmt: skip
def test_another_folder_is_told(tmp_path, capsys, corpus, marker):
    assert main(corpus, tmp_path, tmp_path / "m.json") == 2
    told = capsys.readouterr().err
    assert f"holds no {marker}, nor does a folder in it. Expected " in told and "; found nothing" in told
    put_text(tmp_path / marker / "x", "") if corpus in ("accentdb", "iemocap") else put_text(tmp_path / marker, "{}")
    assert main(corpus, tmp_path, tmp_path / "m.json") == 2
    assert "no usable clip, 0 left out" in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_splits_share_no_speaker(tmp_path, capsys, corpus):
    train = prepare(corpus, tmp_path, "--dev_fraction", 0.3)
    dev = {sample.audio_id: sample for sample in read_manifest(tmp_path / f"{corpus}.dev.json")}
    assert check_manifest(tmp_path / f"{corpus}.dev.json", Limits()).problems == []
    speakers = [{sample.extra["speaker"] for sample in part.values()} for part in (train, dev)]
    assert speakers[0] and speakers[1] and not speakers[0] & speakers[1]
    assert prepare(corpus, tmp_path, "--dev_fraction", 0.3) == train
    assert len(train) + len(dev) == len(prepare(corpus, tmp_path))
    assert f"{corpus}.dev.json is of an earlier run" in capsys.readouterr().out


def test_the_share_held_out_is_near_the_fraction():
    clips = [
        CorpusClip(f"{speaker}-{n}", Path(), f"s{speaker}", {})
        for speaker in range(100)
        for n in range(speaker % 7 + 1)
    ]
    usable = [(clip, 1.0) for clip in clips]
    for fraction in (0.02, 0.1, 0.5, 0.9):
        for seed in range(5):
            held = choose_groups(usable, fraction, seed)
            share = sum(clip.speaker in held for clip in clips)
            assert share == pytest.approx(fraction * len(clips), abs=3.5)  # half of the longest speaker
    assert choose_groups(usable, 0.1, 1) != choose_groups(usable, 0.1, 2)
    assert len(choose_groups(usable, 1e-9, 1)) == 1 and len(choose_groups(usable, 1 - 1e-9, 1)) == 99
    with pytest.raises(CorpusError, match="all clips are of s0: no split by speaker"):
        choose_groups(usable[:1], 0.5, 1)


def test_an_id_that_is_there_twice_is_skipped(tmp_path):
    voxceleb1(tmp_path / "v")
    put_audio(tmp_path / "v" / "copy" / "wav" / "id10001" / "1zcIwhmdeo4" / "00001.wav")
    assert main("voxceleb1", tmp_path / "v", tmp_path / "m.json") == 0
    assert "a clip before it has the same id" in (tmp_path / "m.skipped.txt").read_text()
    assert check_manifest(tmp_path / "m.json", Limits()).problems == []


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, ""),
        ({"gender": "female"}, "The speaker is female."),
        (
            {"gender": "male", "age": 23, "accent": "Indian", "region": "Delhi", "emotion": "happy"},
            "The speaker is male, is 23 years old, has an Indian accent (Delhi) and sounds happy.",
        ),
        ({"topic": "work", "emotion": "sad"}, "The speaker sounds sad. Topic: work."),
        ({"topic": "work"}, "Topic: work."),
    ],
)
def test_attributes_become_sentences(known, text):
    assert describe(known) == text


def test_a_link_is_left_before_its_parent_is_taken(tmp_path):
    """As the system does it: `link/..` is the parent of what the link leads to."""
    (tmp_path / "disk" / "speech").mkdir(parents=True)
    (tmp_path / "disk" / "corpus").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "speech")
    clip = tmp_path / "link" / ".." / "corpus" / "a.wav"
    assert path_from(tmp_path, clip) == "disk/corpus/a.wav"
    assert path_from(tmp_path, tmp_path / "link" / "b.wav") == "link/b.wav"


def test_a_link_behind_the_last_parent_stays(tmp_path, monkeypatch):
    """Data on another disk, linked to from beside the code."""
    (tmp_path / "disk" / "corpus").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "code")
    clip = Path("../data/corpus/a.wav")
    assert path_from(Path("../data"), clip) == path_from(tmp_path / "data", clip) == "corpus/a.wav"
    assert path_from(Path("."), clip) == str(tmp_path / "data" / "corpus" / "a.wav")
    monkeypatch.chdir(tmp_path)
    assert path_from(Path("data"), Path("code/../data/corpus/a.wav")) == "corpus/a.wav"
    assert path_from(Path("data"), Path("data/corpus/a.wav")) == "corpus/a.wav"


def test_as_a_command_from_any_folder(tmp_path):
    accentdb(tmp_path / "corpus")
    script = ROOT / "data_prep" / "accentdb.py"
    done = subprocess.run([sys.executable, script, "corpus", "out.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out.json: 3 clips, 0.00 hours, 2 speakers; 3 without a transcript\n"
    assert (
        json.loads((tmp_path / "out.json").read_text())[0]["audio_filepath"]
        == "corpus/data/odiya/speaker_01/odiya_s01_001.wav"
    )

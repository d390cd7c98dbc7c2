import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.corpus import CorpusClip, CorpusError, choose_groups, describe
from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest

ROOT = Path(__file__).resolve().parents[2]


def put_audio(path, seconds=0.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(seconds * rate)) / 9), rate)


def put_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def librispeech(root):
    put_text(
        root / "SPEAKERS.TXT",
        "; Some pipe(|) separated metadata about all LibriSpeech speakers.\n;\n"
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "19   | F | train-clean-100  | 25.19 | Kara Shallenberg\n"
        "60   | M | train-clean-100  | 20.18 | |CBW|Simon\n"
        "84   | F | dev-clean        |  8.03 | Christie Nowak\n",
    )
    for split, reader, chapter, count in (
        ("train-clean-100", 19, 198, 2),
        ("train-clean-100", 60, 121082, 1),
        ("dev-clean", 84, 121123, 1),
    ):
        stem = f"{reader}-{chapter}"
        folder = root / split / str(reader) / str(chapter)
        for n in range(count):
            put_audio(folder / f"{stem}-{n:04d}.flac", 0.5 + 0.1 * n)
        put_text(folder / f"{stem}.trans.txt", "".join(f"{stem}-{n:04d} GO DO YOU HEAR {n}\n" for n in range(count)))


def voxceleb1(root):
    put_text(
        root / "vox1_meta.csv",
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
        "id10002\tA.R._Rahman\tm\tIndia\tdev\n"
        "id10270\tEartha_Kitt\tf\tUSA\ttest\n",
    )
    for name in (
        "id10001/1zcIwhmdeo4/00001",
        "id10001/7gWzIy6yIIk/00001",
        "id10002/0_laIeN-Q44/00001",
        "id10270/5r0dWxy17C8/00001",
    ):
        put_audio(root / "wav" / f"{name}.wav")


def accentdb(root):
    for name in ("welsh/speaker_01/welsh_s01_001", "welsh/speaker_01/welsh_s01_002", "odiya/speaker_01/odiya_s01_001"):
        put_audio(root / "data" / f"{name}.wav", rate=44100)


def iemocap(root):
    said = {
        "Ses01F_impro01_F000": "Excuse me.",
        "Ses01F_impro01_M001": "Yes. [LAUGHTER]",
        "Ses02M_script01_1_F003": "No.",
    }
    rated = {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_M001": "xxx", "Ses02M_script01_1_F003": "ang"}
    for name in said:
        session, dialog = root / f"Session{name[4]}", name.rpartition("_")[0]
        put_audio(session / "sentences" / "wav" / dialog / f"{name}.wav")
        for folder, line in (
            ("transcriptions", f"{name} [006.2901-008.2357]: {said[name]}\nM: an aside\n"),
            ("EmoEvaluation", "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
             f"[6.2901 - 8.2357]\t{name}\t{rated[name]}\t[2.5000, 2.0000, 3.5000]\nC-E2:\tNeutral;\t()\n"),
        ):  # fmt: skip
            file = session / "dialog" / folder / f"{dialog}.txt"
            put_text(file, (file.read_text() if file.exists() else "") + line)
    put_text(root / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "._Ses01F_impro01_F000.wav", "of a Macintosh")


def dailytalk(root):
    turns = {
        "0": {"0": (0, "what do you want to eat?", "no emotion"), "1": (1, "noodles!", "happiness")},
        "12": {"0": (0, "i am late.", "sadness")},
    }
    metadata = {
        dialog: {
            name: {"speaker": speaker, "text": text, "emotion": emotion, "act": "inform", "topic": "work"}
            for name, (speaker, text, emotion) in of_dialog.items()
        }
        for dialog, of_dialog in turns.items()
    }  # fmt: skip
    put_text(root / "metadata.json", json.dumps(metadata))
    for dialog, of_dialog in turns.items():
        for name, (speaker, text, _) in of_dialog.items():
            put_audio(root / "data" / dialog / f"{name}_{speaker}_d{dialog}.wav", rate=44100)
            put_text(root / "data" / dialog / f"{name}_{speaker}_d{dialog}.txt", text)


def vctk(root):
    put_text(
        root / "speaker-info.txt",
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n"
        "p225  23  F    English    Southern  England\n"
        "p280  25  F    Unknown    France (mic2 files unavailable)\n"
        "p335  25  F    NewZealand  English\n"
        "p376  22  M    Indian\n"
        "s5  24  M    British\n",
    )
    for name in ("p225/p225_001", "p225/p225_002", "p280/p280_001", "p335/p335_001", "p376/p376_295", "s5/s5_001"):
        for microphone in ("mic1", "mic2"):
            put_audio(root / "wav48_silence_trimmed" / f"{name}_{microphone}.flac", rate=48000)
        put_text(root / "txt" / f"{name}.txt", "Please call Stella.\n")


CORPORA = {f.__name__: f for f in (librispeech, voxceleb1, accentdb, iemocap, dailytalk, vctk)}


def main(corpus, *arguments):
    module = importlib.import_module(f"data_prep.{corpus}")
    from data_prep.corpus import run

    return run(
        corpus, module.__doc__, module.read, FLAGS.get(corpus) and FLAGS[corpus](module), list(map(str, arguments))
    )


FLAGS = {
    "librispeech": lambda module: module.add_flags,
    "voxceleb1": lambda module: module.add_flags,
    "accentdb": lambda module: module.add_transcripts_flag,
}


def prepare(corpus, tmp_path, *flags):
    """Make the tiny corpus and its manifest beside it; returns the samples by id."""
    CORPORA[corpus](tmp_path / corpus)
    output = tmp_path / f"{corpus}.json"
    assert main(corpus, tmp_path / corpus, output, *flags) == 0
    assert check_manifest(output, Limits()).problems == []
    return {sample.audio_id: sample for sample in read_manifest(output)}


def attributes(samples):
    return {name: sample.extra["attributes"] for name, sample in samples.items()}


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


def test_voxceleb1(tmp_path, capsys):
    samples = prepare("voxceleb1", tmp_path)
    assert list(samples) == ["id10001-1zcIwhmdeo4-00001", "id10001-7gWzIy6yIIk-00001", "id10002-0_laIeN-Q44-00001"]
    one = samples["id10001-1zcIwhmdeo4-00001"]
    assert one.extra["attributes"] == {"gender": "male", "nationality": "Ireland"}
    assert (one.transcription, one.extra["transcribed"]) == ("", False)
    assert one.target == "The speaker is male and comes from Ireland." and one.input == "Describe the speaker."
    assert "Buckley" not in (tmp_path / "voxceleb1.json").read_text()
    assert "3 without a transcript" in capsys.readouterr().out
    assert list(prepare("voxceleb1", tmp_path, "--splits", "test")) == ["id10270-5r0dWxy17C8-00001"]


def test_voxceleb1_with_archives_unpacked_apart_and_a_speaker_unknown(tmp_path):
    root = tmp_path / "voxceleb1"
    voxceleb1(root)
    (root / "wav").rename(root / "dev_wav")
    (root / "dev").mkdir()
    (root / "dev_wav").rename(root / "dev" / "wav")
    put_audio(root / "test" / "wav" / "id19999" / "x" / "00001.wav")
    assert main("voxceleb1", root, tmp_path / "m.json") == 0
    assert len(read_manifest(tmp_path / "m.json")) == 3
    assert "id19999 is not in vox1_meta.csv" in (tmp_path / "m.skipped.txt").read_text()


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


def test_accentdb(tmp_path):
    samples = prepare("accentdb", tmp_path)
    assert attributes(samples) == {
        "odiya-speaker_01-odiya_s01_001": {"accent": "Odiya"},
        "welsh-speaker_01-welsh_s01_001": {"accent": "Welsh"},
        "welsh-speaker_01-welsh_s01_002": {"accent": "Welsh"},
    }
    assert [sample.target for sample in samples.values()][:2] == [
        "The speaker has an Odiya accent.",
        "The speaker has a Welsh accent.",
    ]
    assert {sample.extra["speaker"] for sample in samples.values()} == {"odiya-speaker_01", "welsh-speaker_01"}


def test_iemocap(tmp_path):
    samples = prepare("iemocap", tmp_path)
    rated = {"valence": 2.5, "activation": 2.0, "dominance": 3.5}
    assert attributes(samples) == {
        "Ses01F_impro01_F000": {"gender": "female", "emotion": "neutral"} | rated,
        "Ses01F_impro01_M001": {"gender": "male"} | rated,  # no agreement on the emotion
        "Ses02M_script01_1_F003": {"gender": "female", "emotion": "angry"} | rated,
    }
    assert [sample.target for sample in samples.values()] == ["Excuse me.", "Yes. [LAUGHTER]", "No."]
    assert [sample.extra["speaker"] for sample in samples.values()] == ["Ses01F", "Ses01M", "Ses02F"]


def test_iemocap_holds_out_whole_sessions(tmp_path):
    train = prepare("iemocap", tmp_path, "--dev_fraction", 0.5)
    dev = read_manifest(tmp_path / "iemocap.dev.json")
    sessions = [{name[:5] for name in names} for names in (train, (sample.audio_id for sample in dev))]
    assert sorted(map(list, sessions)) == [["Ses01"], ["Ses02"]]


def test_dailytalk(tmp_path):
    samples = prepare("dailytalk", tmp_path)
    assert attributes(samples) == {
        "dailytalk-0-0": {"gender": "male", "emotion": "neutral", "act": "inform", "topic": "work"},
        "dailytalk-0-1": {"gender": "female", "emotion": "happy", "act": "inform", "topic": "work"},
        "dailytalk-12-0": {"gender": "male", "emotion": "sad", "act": "inform", "topic": "work"},
    }
    assert samples["dailytalk-12-0"].target == "i am late."
    assert samples["dailytalk-12-0"].audio_filepath.name == "0_0_d12.wav"


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


# -- other layouts ----------------------------------------------------------------------------------------------------


def read_into(tmp_path, corpus, root):
    """The manifest of what lies under a folder."""
    assert main(corpus, root, tmp_path / "m.json") == 0
    return read_manifest(tmp_path / "m.json")


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


def test_both_archives_of_accentdb_are_read_and_what_they_share_once(tmp_path):
    accentdb(tmp_path / "root" / "accentdb_core")
    accentdb(tmp_path / "root" / "accentdb_extended")
    put_audio(tmp_path / "root" / "accentdb_extended" / "data" / "indian" / "speaker_02" / "indian_s02_001.flac")
    assert len(read_into(tmp_path, "accentdb", tmp_path / "root")) == 4
    assert (tmp_path / "m.skipped.txt").read_text().count("a clip before it has the same id") == 3


@pytest.mark.parametrize("folders", ["id10001/v", "wav/id10001/v", "vox1/dev/wav/id10001/v"])
def test_voxceleb1_as_flac_at_other_depths(tmp_path, folders):
    voxceleb1(tmp_path / "root")
    shutil.rmtree(tmp_path / "root" / "wav")
    put_audio(tmp_path / "root" / folders / "00001.flac")
    put_text(tmp_path / "root" / folders / "._00001.flac", "of a Macintosh")
    (sample,) = read_into(tmp_path, "voxceleb1", tmp_path / "root")
    assert sample.audio_id == "id10001-v-00001" and not (tmp_path / "m.skipped.txt").exists()


def test_vctk_converted_to_wav(tmp_path, capsys):
    vctk(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*.flac"):
        put_audio(path.with_suffix(".wav"), rate=16000)
        path.with_name(f"._{path.stem}.wav").write_text("of a Macintosh")
        path.unlink()
    samples = read_into(tmp_path, "vctk", tmp_path / "root")
    assert len(samples) == 6 and samples[0].audio_filepath.name == "p225_001_mic1.wav"
    assert not (tmp_path / "m.skipped.txt").exists()
    told = capsys.readouterr().out  # the second microphone's
    assert "note: 6 of 12 audio files under " in told and "_mic2.wav" in told


def test_iemocap_with_spaces_in_its_ratings(tmp_path, capsys):
    iemocap(tmp_path / "root")
    for path in (tmp_path / "root").glob("Session*/dialog/EmoEvaluation/*.txt"):
        path.write_text(path.read_text().replace("\t", "  "))
    samples = read_into(tmp_path, "iemocap", tmp_path / "root")
    assert samples[0].extra["attributes"]["emotion"] == "neutral" and "note: " not in capsys.readouterr().out
    path = tmp_path / "root" / "Session2" / "dialog" / "EmoEvaluation" / "Ses02M_script01_1.txt"
    path.write_text(path.read_text().replace("[6.2901", "[from 6.2901"))
    samples = read_into(tmp_path, "iemocap", tmp_path / "root")
    assert "emotion" in samples[0].extra["attributes"] and "emotion" not in samples[2].extra["attributes"]
    assert "note: 1 ratings are not as expected, [START - END] UTTERANCE EMOTION [V, A, D]; " in capsys.readouterr().out


def test_dailytalk_converted_to_flac(tmp_path):
    dailytalk(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*.wav"):
        put_audio(path.with_suffix(".flac"))
        path.unlink()
    assert len(read_into(tmp_path, "dailytalk", tmp_path / "root")) == 3


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


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_vox1_meta_without_tabs(tmp_path, capsys, delimiter):
    voxceleb1(tmp_path / "root")
    table = tmp_path / "root" / "vox1_meta.csv"
    table.write_text(table.read_text().replace("\t", delimiter))
    status = main("voxceleb1", tmp_path / "root", tmp_path / "m.json")
    if delimiter == ",":
        assert status == 0 and read_manifest(tmp_path / "m.json")[0].extra["attributes"]["nationality"] == "Ireland"
    else:
        assert status == 2
        error = "line 2: no VoxCeleb1 ID, Gender, Nationality, Set. Expected tab-separated VoxCeleb1 ID"
        assert error in capsys.readouterr().err


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

"""Small corpora in their publishers' layouts, and what data_prep makes of them."""

import importlib
import json

import numpy as np
import soundfile

from data_prep.corpus import run
from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest


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


def read_into(tmp_path, corpus, root):
    """The manifest of what lies under a folder."""
    assert main(corpus, root, tmp_path / "m.json") == 0
    return read_manifest(tmp_path / "m.json")

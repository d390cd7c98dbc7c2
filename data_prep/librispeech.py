"""LibriSpeech (Panayotov et al., ICASSP 2015; openslr.org/12) to a manifest of transcripts, for stage 1.

    python data_prep/librispeech.py data/LibriSpeech data/librispeech.json
    python data_prep/librispeech.py data/LibriSpeech data/dev-clean.json --splits dev-clean

CORPUS_ROOT is the folder LibriSpeech that the archives unpack into, the one it lies in, or one with several of it. The
960 h of training are train-clean-100, train-clean-360 and train-other-500; without --splits, those of them that are
there are read. Layout, from the corpus's README.TXT:

    SPEAKERS.TXT                              "14   | F | train-clean-360  | 25.03 | NAME", ';' begins a comment
    <split>/<reader>/<chapter>/<reader>-<chapter>.trans.txt         "<reader>-<chapter>-<utterance> TEXT IN CAPITALS"
    <split>/<reader>/<chapter>/<reader>-<chapter>-<utterance>.flac

Texts become lower case. Attributes: gender.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import GENDERS, Corpus, CorpusClip, Skipped, choose_splits, run
from data_prep.corpus_files import find_audio, find_files, find_roots, member, read_lines

TRAINING = ("train-clean-100", "train-clean-360", "train-other-500")
SPLITS = (*TRAINING, "dev-clean", "dev-other", "test-clean", "test-other")
LAYOUT = "SPEAKERS.TXT and folders such as train-clean-100, as the archives of openslr.org/12 unpack"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    archives = find_roots(root, "SPEAKERS.TXT", LAYOUT)
    found = [name for name in SPLITS if any(member(archive, name).is_dir() for archive in archives)]
    splits = choose_splits(found, args.splits, TRAINING)
    corpus = Corpus([], [], ("gender",))
    for archive in archives:
        genders = read_genders(member(archive, "SPEAKERS.TXT"))
        for split in splits:
            for chapter in sorted(member(archive, split).glob("*/*/")):
                read_chapter(chapter, genders, corpus)
    return corpus


def read_genders(path: Path) -> dict[str, str]:
    """Gender by reader."""
    fields = [line.split("|") for line in read_lines(path) if line.strip() and not line.startswith(";")]
    return {field[0].strip(): GENDERS.get(field[1].strip().lower(), "") for field in fields if len(field) > 1}


def read_chapter(folder: Path, genders: dict[str, str], corpus: Corpus) -> None:
    """Add the utterances of one chapter to the corpus."""
    reader = folder.parent.name
    said = {}
    for path in find_files(folder, "*.trans.txt"):
        for line in read_lines(path):
            audio_id, text = [*line.split(maxsplit=1), "", ""][:2]
            said[audio_id] = text.strip().lower()
    attributes = {"gender": genders[reader]} if genders.get(reader) else {}
    audio = find_audio(folder, "*")
    for path in audio:
        if said.get(path.stem):
            corpus.clips.append(CorpusClip(path.stem, path, reader, attributes, said[path.stem]))
        else:
            text = folder / f"{reader}-{folder.name}.trans.txt"
            corpus.skipped.append(Skipped(path.stem, f"no text in {text}", path))
    there = {path.stem for path in audio}
    corpus.skipped.extend(Skipped(name, f"no {folder / name}.flac") for name in sorted(said.keys() - there) if name)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="default: the training splits that are there")


def main(argv: list[str] | None = None) -> int:
    return run("librispeech", __doc__, read, add_flags, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

"""VoxCeleb1 (Nagrani et al., 2017; robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html) to a manifest, for stage 2.

    python data_prep/voxceleb1.py data/voxceleb1 data/voxceleb1.json
    python data_prep/voxceleb1.py data/voxceleb1 data/voxceleb1.json --transcripts voxceleb1_asr.jsonl

Layout of CORPUS_ROOT: the page's vox1_meta.csv, and what vox1_dev_wav.zip and vox1_test_wav.zip hold, up to three
folders deep; its audio may have been converted to .flac:

    vox1_meta.csv                    tab-separated: VoxCeleb1 ID, VGGFace1 ID, Gender, Nationality, Set
    [<folder>/][<folder>/][wav/]id10001/<video>/00001.wav

The speakers of Set "dev" are read; --splits says otherwise. The corpus has no transcripts: without --transcripts the
target describes the speaker, which is enough to ask about gender and nationality. Attributes: gender, nationality. The
speakers' names are left out.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import (
    GENDERS,
    Corpus,
    CorpusClip,
    Skipped,
    add_transcripts,
    add_transcripts_flag,
    choose_splits,
    run,
)
from data_prep.corpus_files import CorpusError, by_any_case, find_audio, find_roots, member, read_lines

COLUMNS = ("VoxCeleb1 ID", "Gender", "Nationality", "Set")
ATTRIBUTES = ("gender", "nationality")
LAYOUT = "vox1_meta.csv and wav/id*/*/*.wav, as downloaded from the VoxCeleb1 page"
FOLDERS = ("", "*/", "*/*/", "*/*/*/")  # between the root and the speakers


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    rows = {}
    for folder in find_roots(root, "vox1_meta.csv", LAYOUT):
        rows |= read_speakers(member(folder, "vox1_meta.csv"))
    speakers, corpus = by_any_case(rows), Corpus([], [], ATTRIBUTES)
    paths = find_audio(root, *(f"{folders}id[0-9]*/*/*" for folders in FOLDERS))
    there = {path.parts[-3] for path in paths}
    found = sorted({speakers(name)["Set"] for name in there if speakers(name)})
    splits = choose_splits(found, args.splits, ("dev",))
    for path in paths:
        speaker, video = path.parts[-3:-1]
        audio_id, row = f"{speaker}-{video}-{path.stem}", speakers(speaker)
        if row is None:
            corpus.skipped.append(Skipped(audio_id, f"{speaker} is not in vox1_meta.csv", path))
        elif row["Set"] in splits:
            known = {"gender": GENDERS.get(row["Gender"].lower(), ""), "nationality": row["Nationality"]}
            corpus.clips.append(CorpusClip(audio_id, path, speaker, {key: known[key] for key in known if known[key]}))
    return add_transcripts(corpus, args.transcripts)


def read_speakers(path: Path) -> dict[str, dict[str, str]]:
    """The rows of vox1_meta.csv by speaker. Raises CorpusError where a column is missing."""
    lines = [line for line in read_lines(path) if line.strip()]
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    try:
        header, *rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE) if lines else [[]]
    except csv.Error as error:
        raise CorpusError(f"{path} is no table: {error}. Expected tab-separated {', '.join(COLUMNS)}") from None
    places = {name.strip(' "').lower(): place for place, name in enumerate(header)}
    speakers = {}
    for number, row in enumerate(rows, 2):
        missing = [name for name in COLUMNS if places.get(name.lower(), len(row)) >= len(row)]
        if missing:
            raise CorpusError(
                f"{path} line {number}: no {', '.join(missing)}. Expected tab-separated {', '.join(COLUMNS)}"
            )
        known = {name: row[places[name.lower()]].strip(' "') for name in COLUMNS}
        speakers[known["VoxCeleb1 ID"]] = known | {"Set": known["Set"].lower()}
    return speakers


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", nargs="+", choices=("dev", "test"), help="by the column Set (default: dev)")
    add_transcripts_flag(parser)


def main(argv: list[str] | None = None) -> int:
    return run("voxceleb1", __doc__, read, add_flags, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

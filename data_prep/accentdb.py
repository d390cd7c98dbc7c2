"""AccentDB (Ahamad et al., LREC 2020; accentdb.org) to a manifest of accents, for stage 2.

    python data_prep/accentdb.py data/accentdb_extended data/accentdb.json
    python data_prep/accentdb.py data/accentdb_extended data/accentdb.json --transcripts accentdb_asr.jsonl

CORPUS_ROOT is the unpacked archive accentdb_core or accentdb_extended, or a folder with both. Layout, as TensorFlow
Datasets reads it (tensorflow_datasets/datasets/accentdb):

    data/<accent>/speaker_<number>/<accent>_s<number>_<clip>.wav   (or .flac)

The sentences are Harvard sentences, but the archive does not say which clip is which: without --transcripts the target
describes the speaker. Attributes: accent. There are 23 speakers: a --dev_fraction takes whole ones.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import Corpus, CorpusClip, add_transcripts, add_transcripts_flag, run
from data_prep.corpus_files import find_audio, find_roots

LAYOUT = "data/<accent>/speaker_<number>/*.wav, as accentdb_extended.tar.gz unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    clips = []
    for archive in find_roots(root, "data", LAYOUT):
        for path in find_audio(archive, "data/*/speaker_*/*"):
            accent, speaker = path.parts[-3:-1]
            name = f"{accent}-{speaker}"
            clips.append(CorpusClip(f"{name}-{path.stem}", path, name, {"accent": accent.capitalize()}))
    return add_transcripts(Corpus(clips, [], ("accent",)), args.transcripts)


def main(argv: list[str] | None = None) -> int:
    return run("accentdb", __doc__, read, add_transcripts_flag, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

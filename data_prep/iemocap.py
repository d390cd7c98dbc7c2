"""IEMOCAP (Busso et al., 2008; sail.usc.edu/iemocap) to a manifest of transcripts and emotions, for stage 2.

    python data_prep/iemocap.py data/IEMOCAP_full_release data/iemocap.json

Layout of CORPUS_ROOT, from the release's README.txt and files:

    Session<1-5>/sentences/wav/<dialog>/<utterance>.wav
    Session<1-5>/dialog/transcriptions/<dialog>.txt    "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me."
    Session<1-5>/dialog/EmoEvaluation/<dialog>.txt     "[6.2901 - 8.2357] Ses01F_impro01_F000 neu [2.5, 2.5, 2.5]",
                                                       with tabs between the four

In "Ses01F_impro01_M003" the last letter says who speaks; the first F or M only says who wore the markers. Attributes:
gender; emotion, where the annotators agreed (not "xxx" or "oth"); valence, activation and dominance from 1 to 5. Both
speakers of a session hear each other's microphone, so a --dev_fraction takes whole sessions.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import GENDERS, Corpus, CorpusClip, Skipped, find_root, read_lines, run

EMOTIONS = {
    "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "fru": "frustrated", "exc": "excited",
    "fea": "fearful", "sur": "surprised", "dis": "disgusted",
}  # fmt: skip
SAID = re.compile(r"^(Ses\w+) \[[\d.]+-[\d.]+\]: ?(.*)$")
RATED = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
DIMENSIONS = ("valence", "activation", "dominance")
LAYOUT = "Session1 to Session5, as IEMOCAP_full_release.tar.gz unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    root = find_root(root, "Session1", LAYOUT)
    corpus = Corpus([], [])
    for session in sorted(root.glob("Session[1-5]")):
        said = read_transcripts(session / "dialog" / "transcriptions")
        rated = read_ratings(session / "dialog" / "EmoEvaluation")
        for path in sorted((session / "sentences" / "wav").glob("*/Ses*.wav")):
            if not said.get(path.stem):
                corpus.skipped.append(Skipped(path.stem, f"no text in {session / 'dialog' / 'transcriptions'}"))
                continue
            gender = path.stem.rpartition("_")[2][0]
            attributes = {"gender": GENDERS[gender.lower()]} if gender in "FM" else {}
            group = path.stem[:5]  # "Ses01"
            attributes |= rated.get(path.stem, {})
            corpus.clips.append(CorpusClip(path.stem, path, group + gender, attributes, said[path.stem], group))
    return corpus


def read_transcripts(folder: Path) -> dict[str, str]:
    """What was said, by utterance."""
    matches = [SAID.match(line) for path in sorted(folder.glob("Ses*.txt")) for line in read_lines(path)]
    return {match[1]: match[2].strip() for match in matches if match}


def read_ratings(folder: Path) -> dict[str, dict[str, str | float]]:
    """Emotion, where agreed upon, and the three dimensions, by utterance."""
    ratings = {}
    for path in sorted(folder.glob("Ses*.txt")):
        for match in filter(None, map(RATED.match, read_lines(path))):
            emotion = {"emotion": EMOTIONS[match[2]]} if match[2] in EMOTIONS else {}
            ratings[match[1]] = emotion | dict(zip(DIMENSIONS, map(float, match.groups()[2:]), strict=True))
    return ratings


def main(argv: list[str] | None = None) -> int:
    return run("iemocap", __doc__, read, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

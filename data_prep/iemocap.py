"""IEMOCAP (Busso et al., 2008; sail.usc.edu/iemocap) to a manifest of transcripts and emotions, for stage 2.

    python data_prep/iemocap.py data/IEMOCAP_full_release data/iemocap.json

Layout of CORPUS_ROOT, from the release's README.txt and files:

    Session<1-5>/sentences/wav/<dialog>/<utterance>.wav
    Session<1-5>/dialog/transcriptions/<dialog>.txt    "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me."
    Session<1-5>/dialog/EmoEvaluation/<dialog>.txt     "[6.2901 - 8.2357] Ses01F_impro01_F000 neu [2.5, 2.5, 2.5]",
                                                       with tabs or spaces between the four

In "Ses01F_impro01_M003" the last letter says who speaks; the first F or M only says who wore the markers. Attributes:
gender; emotion, where the annotators agreed (not "xxx" or "oth"); valence, activation and dominance from 1 to 5. Both
speakers of a session hear each other's microphone, so a --dev_fraction takes whole sessions.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import GENDERS, Corpus, CorpusClip, Skipped, run
from data_prep.corpus_files import any_case, by_any_case, find_audio, find_files, find_roots, member, read_lines

EMOTIONS = {
    "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "fru": "frustrated", "exc": "excited",
    "fea": "fearful", "sur": "surprised", "dis": "disgusted",
}  # fmt: skip
SAID = re.compile(r"(?i)^(Ses\d\w+)\s+\[[\d.]+\s*-\s*[\d.]+\]:\s*(.*)$")
RATED = re.compile(r"^\[[\d.]+\s*-\s*[\d.]+\]\s+(\S+)\s+(\w+)\s+\[(\d+\.?\d*),\s*(\d+\.?\d*),\s*(\d+\.?\d*)\]")
DIMENSIONS = ("valence", "activation", "dominance")
ATTRIBUTES = ("gender", "emotion", *DIMENSIONS)
LAYOUT = "Session1 to Session5, as IEMOCAP_full_release.tar.gz unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    corpus = Corpus([], [], ATTRIBUTES)
    releases = find_roots(root, "Session1", LAYOUT)
    for session in sorted(folder for release in releases for folder in release.glob(any_case("Session[1-5]"))):
        dialogs = member(session, "dialog")
        texts, ratings = read_transcripts(member(dialogs, "transcriptions")), read_ratings(dialogs)
        said, rated, there = by_any_case(texts), by_any_case(ratings), set()
        for path in find_audio(session, "sentences/wav/*/Ses*"):
            there.add(path.stem.casefold())
            if not said(path.stem):
                corpus.skipped.append(Skipped(path.stem, f"no text in {dialogs / 'transcriptions'}", path))
                continue
            gender = path.stem.rpartition("_")[2][:1].upper()
            attributes = {"gender": GENDERS[gender.lower()]} if gender in ("F", "M") else {}
            group = path.stem[:5].capitalize()  # "Ses01"
            attributes |= rated(path.stem) or {}
            corpus.clips.append(CorpusClip(path.stem, path, group + gender, attributes, said(path.stem), group))
        wav = session / "sentences" / "wav"
        corpus.skipped.extend(
            Skipped(name, f"no audio in {wav}") for name in sorted(texts) if name.casefold() not in there
        )
    return corpus


def read_transcripts(folder: Path) -> dict[str, str]:
    """What was said, by utterance."""
    matches = [SAID.match(line) for path in find_files(folder, "Ses*.txt") for line in read_lines(path)]
    return {match[1]: match[2].strip() for match in matches if match}


def read_ratings(dialogs: Path) -> dict[str, dict[str, str | float]]:
    """Emotion, where agreed upon, and the three dimensions, by utterance; a rating that cannot be read is told."""
    ratings, unread = {}, []
    for path in find_files(dialogs, "EmoEvaluation/Ses*.txt"):
        for number, line in enumerate(read_lines(path), 1):
            match = RATED.match(line)
            if not match:
                unread += [f"{path} line {number}: {line!r}"] if line.startswith("[") else []
                continue
            label = match[2].lower()
            emotion = {"emotion": EMOTIONS[label]} if label in EMOTIONS else {}
            ratings[match[1]] = emotion | dict(zip(DIMENSIONS, map(float, match.groups()[2:]), strict=True))
    if unread:
        print(
            f"note: {len(unread)} ratings are not as expected, [START - END] UTTERANCE EMOTION [V, A, D]; {unread[0]}"
        )
    return ratings


def main(argv: list[str] | None = None) -> int:
    return run("iemocap", __doc__, read, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

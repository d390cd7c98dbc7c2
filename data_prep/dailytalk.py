"""DailyTalk (Lee et al., ICASSP 2023; github.com/keonlee9420/DailyTalk) to a manifest, for stage 2.

    python data_prep/dailytalk.py data/dailytalk data/dailytalk.json

Layout of CORPUS_ROOT, the unpacked dailytalk.zip, as the authors' preprocessor/ and lhotse's recipe read it:

    metadata.json     by dialog and utterance: {"0": {"0": {"speaker": 0, "text": ..., "emotion": ..., "act": ...}}}
    data/<dialog>/<utterance>_<speaker>_d<dialog>.wav   (or .flac)

Attributes: gender (speaker 0 is male, speaker 1 female, as in lhotse's recipe), emotion, act, topic. With two speakers
in all, a --dev_fraction of any size sets one of them aside.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import Corpus, CorpusClip, CorpusError, Skipped, find_roots, run

GENDER_OF_SPEAKER = {"0": "male", "1": "female"}
EMOTIONS = {
    "no emotion": "neutral", "anger": "angry", "disgust": "disgusted", "fear": "fearful", "happiness": "happy",
    "sadness": "sad", "surprise": "surprised",
}  # fmt: skip
LAYOUT = "metadata.json and data/<dialog>/*.wav, as dailytalk.zip unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    corpus = Corpus([], [])
    for archive in find_roots(root, "metadata.json", LAYOUT):
        read_archive(archive, corpus)
    return corpus


def read_archive(root: Path, corpus: Corpus) -> None:
    """Add the utterances of an unpacked archive to the corpus. Raises CorpusError."""
    try:
        dialogs = json.loads((root / "metadata.json").read_text(encoding="utf-8"))
        utterances = [(dialog, name, known) for dialog in dialogs for name, known in dialogs[dialog].items()]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CorpusError(f"{root / 'metadata.json'} is not an object of dialogs: {error}") from None
    for dialog, name, known in utterances:
        audio_id = f"dailytalk-{dialog}-{name}"
        known = known if isinstance(known, dict) else {}
        text, speaker = str(known.get("text") or "").strip(), str(known.get("speaker"))
        if not text:
            corpus.skipped.append(Skipped(audio_id, "no text in metadata.json"))
            continue
        attributes = {
            "gender": GENDER_OF_SPEAKER.get(speaker),
            "emotion": EMOTIONS.get(known.get("emotion"), known.get("emotion")),
            "act": known.get("act"),
            "topic": known.get("topic"),
        }
        attributes = {key: value for key, value in attributes.items() if value}
        path = root / "data" / dialog / f"{name}_{speaker}_d{dialog}.wav"
        if not path.exists() and path.with_suffix(".flac").exists():
            path = path.with_suffix(".flac")
        corpus.clips.append(CorpusClip(audio_id, path, f"dailytalk-speaker-{speaker}", attributes, text))


def main(argv: list[str] | None = None) -> int:
    return run("dailytalk", __doc__, read, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

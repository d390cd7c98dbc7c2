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

from data_prep.corpus import Corpus, CorpusClip, Skipped, run
from data_prep.corpus_files import CorpusError, find_audio, find_roots, member, read_text

GENDER_OF_SPEAKER = {"0": "male", "1": "female"}
EMOTIONS = {
    "no emotion": "neutral", "anger": "angry", "disgust": "disgusted", "fear": "fearful", "happiness": "happy",
    "sadness": "sad", "surprise": "surprised",
}  # fmt: skip
ATTRIBUTES = ("gender", "emotion", "act", "topic")
LAYOUT = "metadata.json and data/<dialog>/*.wav, as dailytalk.zip unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    corpus = Corpus([], [], ATTRIBUTES)
    for archive in find_roots(root, "metadata.json", LAYOUT):
        read_archive(archive, corpus)
    return corpus


def read_archive(root: Path, corpus: Corpus) -> None:
    """Add the utterances of an unpacked archive to the corpus. Raises CorpusError."""
    metadata, unread = member(root, "metadata.json"), []
    try:
        dialogs = json.loads(read_text(metadata))
        utterances = [(dialog, name, known) for dialog in dialogs for name, known in dialogs[dialog].items()]
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise CorpusError(f"{metadata} is not an object of dialogs ({error}): unpack the corpus again") from None
    audio = {f"{path.parent.name}/{path.stem}".casefold(): path for path in find_audio(root, "data/*/*")}
    for dialog, name, known in utterances:
        audio_id = f"dailytalk-{dialog}-{name}"
        known = known if isinstance(known, dict) else {}
        text, speaker = known.get("text"), str(known.get("speaker"))
        if not isinstance(text, str) or not text.strip():
            found = "no text" if text in (None, "") or isinstance(text, str) else f"a text that is {text!r:.60}"
            corpus.skipped.append(Skipped(audio_id, f"{found} in {metadata.name}"))
            continue
        told = {name: known.get(name) for name in ("emotion", "act", "topic")}
        unread += [f"{audio_id}: {key} is {value!r:.60}" for key, value in told.items() if not is_label(value)]
        labels = {key: value.strip() for key, value in told.items() if isinstance(value, str) and value.strip()}
        if "emotion" in labels:
            labels["emotion"] = EMOTIONS.get(labels["emotion"].lower(), labels["emotion"])
        attributes = {"gender": GENDER_OF_SPEAKER[speaker]} if speaker in GENDER_OF_SPEAKER else {}
        stem = f"{name}_{speaker}_d{dialog}"
        path = audio.get(f"{dialog}/{stem}".casefold(), root / "data" / dialog / f"{stem}.wav")
        speaker = f"dailytalk-speaker-{speaker}"
        corpus.clips.append(CorpusClip(audio_id, path, speaker, attributes | labels, text.strip()))
    if unread:
        print(f"note: {len(unread)} attributes are no text, and left out, the first: {unread[0]}")


def is_label(value: object) -> bool:
    """Whether an attribute is a text, or not there."""
    return value is None or isinstance(value, str)


def main(argv: list[str] | None = None) -> int:
    return run("dailytalk", __doc__, read, argv=argv)


if __name__ == "__main__":
    sys.exit(main())

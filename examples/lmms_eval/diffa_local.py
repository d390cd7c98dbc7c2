"""What lmms-eval calls for the tasks in this folder; runs in its environment, without this repository's packages."""

import base64
from pathlib import Path

FOLDER = Path(__file__).parent
MIME_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


def path_of(doc: dict) -> Path:
    return FOLDER / doc["audio_id"]


def prompt(doc: dict, lmms_eval_specific_kwargs: dict | None = None) -> str:
    """MMAU's instruction, with the question and its choices in it: published checkpoints were scored with it."""
    return doc["prompt"]


def audio_paths(doc: dict) -> list[str]:
    return [str(path_of(doc))]


def audio_arrays(doc: dict) -> list[dict]:
    import soundfile

    samples, rate = soundfile.read(path_of(doc), dtype="float32")
    return [{"array": samples, "sampling_rate": rate}]


def messages(doc: dict, lmms_eval_specific_kwargs: dict | None = None) -> list[dict]:
    """The audio as a data: URI; a path or an http address would be refused by the server."""
    content = base64.b64encode(path_of(doc).read_bytes()).decode()
    audio = {"type": "audio", "url": f"data:{MIME_TYPES[path_of(doc).suffix]};base64,{content}"}
    return [{"role": "user", "content": [audio, {"type": "text", "text": prompt(doc)}]}]


def accuracy(doc: dict, results: list[str]) -> dict[str, float]:
    """MMAU's rule: all words of the answer are said, and none of a wrong choice that the answer has not."""
    said, right = words(results[0]), words(doc["answer"])
    wrong = set().union(*map(words, doc["choices"])) - right
    return {"accuracy": float(bool(said) and right <= said and not wrong & said)}


def words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in text.lower()).split())

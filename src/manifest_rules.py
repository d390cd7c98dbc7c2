"""What an entry of a manifest must keep to, and how to say that it does not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.audio import MAY_LACK, AudioFacts
from src.manifest import LONGEST, Entry

SHORTEST_SECONDS = 0.1
DURATION_TOLERANCE = 0.1  # seconds between the manifest and the file


@dataclass(frozen=True)
class Problem:
    """Something wrong with one entry."""

    place: str
    audio_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}, {self.audio_id}: {self.text}"


def audio_file(entry: Entry, folder: Path) -> Path | None:
    """The audio file that an entry names, if it names one."""
    name = entry.value.get("audio_filepath") if isinstance(entry.value, dict) else None
    return folder / name if isinstance(name, str) else None


def id_of(entry: Entry) -> str:
    """What to call an entry in messages, in ASCII."""
    name = entry.value.get("audio_id") if isinstance(entry.value, dict) else None
    return ascii(name)[1:-1] if isinstance(name, str) and name else "(no id)"


def empty_texts(entry: Entry, keys: Sequence[str] = ("audio_id", "target", "transcription")) -> Iterable[str]:
    """Which of an entry's texts are empty that must not be."""
    value = entry.value if isinstance(entry.value, dict) else {}
    for key in keys:
        if isinstance(text := value.get(key), str) and not text.strip():
            if key == "transcription" and value.get("transcribed") is False:
                continue
            yield f"{key} is empty"


def problems_of_length(seconds: float, max_seconds: float) -> Iterable[str]:
    """What is wrong with how long a clip lasts."""
    if seconds < SHORTEST_SECONDS:
        yield f"lasts {seconds:.3f} s; clips must last at least {SHORTEST_SECONDS} s"
    if seconds > max_seconds:
        yield f"lasts {seconds:.2f} s; what comes after {max_seconds:g} s is not heard"


def problems_of_audio(found: AudioFacts, told: object, max_seconds: float) -> Iterable[str]:
    """What is wrong with a readable file; `told` is the manifest's duration, if it is one."""
    yield from problems_of_length(found.seconds, max_seconds)
    if found.missing_seconds > MAY_LACK * found.seconds:  # less is how some programs write headers
        yield f"the file is cut: {found.seconds:.2f} s are left, the header promises {found.missing_seconds:.2f} more"
    if isinstance(told, (int, float)) and 0 < told < LONGEST and abs(told - found.seconds) > DURATION_TOLERANCE:
        yield f"duration is {told:.2f} s, but the file lasts {found.seconds:.2f} s"


def repeated_ids(entries: Sequence[Entry]) -> Iterable[tuple[int, str]]:
    """Yield (index, the first one's place) for every entry whose audio_id was there before."""
    first: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name = entry.value.get("audio_id") if isinstance(entry.value, dict) else None
        if isinstance(name, str):
            if name in first:
                yield index, first[name]
            first.setdefault(name, entry.place)


def problems_of_text(prompt: int, answer: int, max_length: int) -> Iterable[str]:
    if prompt >= max_length:
        yield f"the prompt has {prompt} tokens, which leaves no room for an answer in {max_length}"
    elif prompt + answer > max_length:
        yield f"prompt and answer have {prompt} + {answer} tokens; the answer is cut at {max_length}"

"""Training manifests, JSON lists or JSON Lines of samples: reading, writing, and what every entry must keep to.

    python -m src.manifest check data/librispeech.json

finds everything wrong with a manifest and its audio in one pass (src/manifest_check.py).
"""

import json
import os
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.audio_decoder import check_file
from src.configuration_DIFFA import STAGES
from src.decoder import AudioError
from src.errors import UserError, is_unicode
from src.files import write_file
from src.json_records import JSONFileError, read_json_records, shorten
from src.text_faults import faults_of

REQUIRED = {
    "audio_id": str,
    "audio_filepath": str,
    "input": str,
    "target": str,
    "transcription": str,
    "dataset": str,
    "duration": (int, float),
}
PAIR = ("chosen", "rejected")  # optional keys: `chosen` is another name of `target`; stage 4 learns to prefer it
MIN_SECONDS = 0.1  # of a clip
MAX_DURATION = 86_400  # seconds that an entry may claim; more is a mistake
MAX_SHOWN = 10  # problems in one message
THREADS, PORTION = 16, 256  # that look for files, and how many files each takes at a time


class ManifestError(UserError):
    """A manifest that cannot be used; the message names the file, the entry and the key."""


@dataclass(frozen=True)
class Sample:
    """One training sample."""

    audio_id: str
    audio_filepath: Path  # resolved against the manifest's folder
    input: str  # the instruction
    target: str  # the answer to learn; in a stage that transcribes, the transcription
    transcription: str
    dataset: str
    duration: float  # seconds
    extra: Mapping[str, Any]  # keys that nothing here reads, passed through
    rejected: str | None = None  # of a preference pair, the worse answer; the target is the better one


@dataclass(frozen=True)
class ManifestEntry:
    """One entry of a manifest, right or wrong."""

    place: str  # "line 3" in JSON Lines, "line 3, entry 2" in a JSON list; both count from 1
    value: Any  # with a `target` where it has a `chosen` alone
    problems: tuple[str, ...]  # why it cannot be a sample, in words

    def get(self, key: str) -> Any:
        """What a key holds; None where it is missing, or the entry is no object."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def audio_file(self, folder: Path) -> Path | None:
        """The audio file that it names, if it names one, for a manifest in `folder`."""
        name = self.get("audio_filepath")
        return folder / name if isinstance(name, str) else None


@dataclass(frozen=True)
class Problem:
    """Something wrong with one entry."""

    entry: ManifestEntry
    text: str

    def __str__(self) -> str:
        """With the entry's place and id before it, in ASCII."""
        name = self.entry.get("audio_id")
        return f"{self.entry.place}, {ascii(name)[1:-1] if isinstance(name, str) and name else '(no id)'}: {self.text}"


# -- reading and writing -----------------------------------------------------------------------------------------------


def read_manifest(path: str | os.PathLike) -> list[Sample]:
    """Read a manifest; relative audio paths resolve against its folder.

    Raises ManifestError when the file is missing, is neither a JSON list nor JSON Lines, is empty, or has an entry
    with a missing key or a value of the wrong type; the message names the entry and says what was expected.
    """
    samples, folder = [], Path(path).parent
    for entry in read_entries(path):
        if entry.problems:
            raise ManifestError(f"manifest {path}, {entry.place}: {'; '.join(entry.problems)}")
        samples.append(to_sample(entry.value, folder))
    return samples


def read_entries(path: str | os.PathLike) -> Iterator[ManifestEntry]:
    """Yield every entry, the wrong ones with their problems.

    Raises ManifestError where nothing more can be read, or there is nothing to read.
    """
    empty = True
    try:
        for record in read_json_records(path):
            empty = False
            problems = (record.problem,) if record.problem else tuple(problems_of(record.value))
            yield ManifestEntry(record.place, with_target(record.value), problems)
    except JSONFileError as error:
        raise ManifestError(f"manifest {error}") from None
    if empty:
        raise ManifestError(f"manifest {path} is empty: it has no samples to train on. Pass another one")


def with_target(value: Any) -> Any:
    """A parsed entry, with what it calls `chosen` as its `target` if it has none."""
    if isinstance(value, dict) and "target" not in value and "chosen" in value:
        return value | {"target": value["chosen"]}
    return value


def to_sample(value: Mapping[str, Any], folder: Path) -> Sample:
    """The sample of an entry without problems."""
    known = {key: value[key] for key in REQUIRED} | {"audio_filepath": folder / value["audio_filepath"]}
    extra = {key: value[key] for key in value if key not in (*REQUIRED, *PAIR)}
    return Sample(**known, extra=extra, rejected=value.get("rejected"))


def write_manifest(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest, one entry a line: JSON Lines if the name ends in .jsonl, else a JSON list.

    Raises ManifestError where there are no entries; what is at `path` then stays.
    """
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    if not lines:
        raise ManifestError(f"{path} is not written: there are no samples to put into it")
    text = "".join(f"{line}\n" for line in lines) if path.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n"
    write_file(path, text)


# -- what an entry must keep to ----------------------------------------------------------------------------------------


def problems_of(value: Any) -> Iterator[str]:
    """Say in words why a parsed entry cannot be a sample; nothing for one that can."""
    if not isinstance(value, dict):
        yield f"expected an object with keys, found {type(value).__name__}"
        return
    missing = [key for key in REQUIRED if key not in with_target(value)]
    if missing:
        yield f"missing {', '.join(missing)}; every sample needs {', '.join(REQUIRED)}"
    for key, kind in (REQUIRED | dict.fromkeys(PAIR, str)).items():
        if key not in value:
            continue
        found = value[key]
        if not isinstance(found, kind) or isinstance(found, bool):
            yield f"{key} is {shorten(found)}; expected {'a number' if key == 'duration' else 'a string'}"
        elif kind is str and not is_unicode(found):
            yield f"{key} is {shorten(found)}, which holds half a surrogate pair; expected Unicode text"
        elif kind is not str and not 0 < found < MAX_DURATION:
            yield f"duration is {shorten(found)}; expected seconds, more than 0 and less than a day"
    if "chosen" in value and value["chosen"] != with_target(value)["target"]:
        yield "chosen and target differ: both name the better answer, so keep one of them"


def problems_of_pair(entry: ManifestEntry) -> Iterator[str]:
    """Say in words why an entry is no preference pair, beyond what `problems_of` says; nothing for one that is."""
    rejected, target = entry.get("rejected"), entry.get("target")
    if isinstance(entry.value, dict) and "rejected" not in entry.value:
        yield "missing rejected: a preference pair needs a worse answer beside its target (or chosen)"
    elif isinstance(rejected, str) and not rejected.strip():
        yield "rejected is empty"
    elif isinstance(rejected, str) and isinstance(target, str) and rejected.strip() == target.strip():
        yield "rejected is the target: there is nothing to prefer"


def empty_texts(entry: ManifestEntry, keys: Sequence[str] = ("audio_id", "target", "transcription")) -> Iterable[str]:
    """Which of an entry's texts are empty that must not be."""
    for key in keys:
        if isinstance(text := entry.get(key), str) and not text.strip():
            if key == "transcription" and entry.get("transcribed") is False:
                continue
            yield f"{key} is empty"


def odd_characters(entry: ManifestEntry) -> Iterable[str]:
    """Which of an entry's texts hold what nobody meant to write: the model would read it, or learn to say it."""
    for key in ("input", "target", "transcription", *PAIR):
        text = entry.get(key)
        yield from (f"{key} {fault}" for fault in faults_of(text)) if isinstance(text, str) else ()


def problems_of_length(seconds: float, max_seconds: float) -> Iterable[str]:
    """What is wrong with how long a clip lasts."""
    if seconds < MIN_SECONDS:
        yield f"lasts {seconds:.3f} s; clips must last at least {MIN_SECONDS} s"
    if seconds > max_seconds:
        yield f"lasts {seconds:.2f} s; what comes after {max_seconds:g} s is not heard"


def repeated_ids(entries: Sequence[ManifestEntry]) -> Iterable[tuple[int, str]]:
    """Yield (index, the first one's place) for every entry whose audio_id was there before."""
    first: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name = entry.get("audio_id")
        if isinstance(name, str):
            if name in first:
                yield index, first[name]
            first.setdefault(name, entry.place)


# -- manifests to train on ---------------------------------------------------------------------------------------------


def read_training_manifest(
    path: str | os.PathLike, stage: int, max_seconds: float, max_bad_fraction: float
) -> tuple[list[Sample], str]:
    """Read a manifest to train on, or to evaluate on; no audio is opened.

    Args:
        max_seconds: what of a clip is heard.
        max_bad_fraction: of the entries, how many may lack their audio, as in training.

    Returns:
        The samples, and what is only suspicious in words, empty where nothing is: ids that are there twice, empty
        ids, odd characters, durations under 0.1 s or over `max_seconds`, few missing files. In a stage that
        transcribes, the samples' targets are their transcriptions, as published, and what is suspicious is a target
        that was another text; a sample without a transcription keeps its target, which is told unless the entry says
        `"transcribed": false`.

    Raises ManifestError for what cannot be trained on, all of it: what `read_entries` finds, empty targets, more
    missing or empty audio files than `max_bad_fraction` allows; in a stage that learns preferences, what
    `problems_of_pair` finds.
    """
    entries, folder = list(read_entries(path)), Path(path).parent
    wrong, lacking, odd = [], [], []  # (index, what is wrong)
    absent = absent_files(filter(None, (entry.audio_file(folder) for entry in entries)))
    for index, entry in enumerate(entries):
        wrong += [(index, text) for text in (*entry.problems, *empty_texts(entry, ("target",)))]
        if reason := absent.get(entry.audio_file(folder)):
            lacking.append((index, reason))
        if not entry.problems:
            odd += [(index, text) for text in oddities_of(entry, stage, max_seconds)]
            if STAGES[stage].prefers:
                wrong += [(index, text) for text in problems_of_pair(entry)]
    odd += [(index, f"this audio_id is used in {place} as well") for index, place in repeated_ids(entries)]
    too_many = len(lacking) > max_bad_fraction * len(entries)
    if too_many:
        wrong += lacking
    else:
        odd += lacking
    if wrong:
        reason = f"; --max_bad_fraction {max_bad_fraction:g} allows fewer missing files" if too_many else ""
        raise ManifestError(f"manifest {path}: {told(entries, wrong, 'cannot be trained on' + reason)}")
    samples = [to_sample(entry.value, folder) for entry in entries]
    if STAGES[stage].transcribes:
        samples = [replace(sample, target=sample.transcription) if sample.transcription.strip() else sample
                   for sample in samples]  # fmt: skip
    return samples, f"manifest {path}: {told(entries, odd, 'look odd')}" if odd else ""


def absent_files(files: Iterable[Path]) -> dict[Path, str]:
    """Those of `files` that are missing or empty, and the reason; many at a time, since network disks are slow."""
    unique = list(dict.fromkeys(files))
    portions = [unique[start : start + PORTION] for start in range(0, len(unique), PORTION)]
    with ThreadPoolExecutor(THREADS) as pool:
        return {file: reason for found in pool.map(absent_of, portions) for file, reason in found}


def absent_of(files: Sequence[Path]) -> list[tuple[Path, str]]:
    found = []
    for file in files:
        try:
            check_file(file)
        except AudioError as error:
            found.append((file, str(error)))
    return found


def oddities_of(entry: ManifestEntry, stage: int, max_seconds: float) -> Iterable[str]:
    """What training can live with, in words. Transcriptions matter in stages that learn them."""
    yield from empty_texts(entry, ("audio_id",))
    yield from odd_characters(entry)
    if STAGES[stage].transcribes:
        target, transcription = entry.value["target"].strip(), entry.value["transcription"].strip()
        yield from (f"{text}: stage {stage} learns its target" for text in empty_texts(entry, ("transcription",)))
        if transcription and transcription != target:
            yield f"target is not the transcription, which stage {stage} learns in its place"
    yield from problems_of_length(entry.value["duration"], max_seconds)


def told(entries: Sequence[ManifestEntry], found: Sequence[tuple[int, str]], verdict: str) -> str:
    """How many entries a verdict is on, and the first of what was found, one line each, in the manifest's order."""
    lines = [f"{len({index for index, _ in found})} of {len(entries)} entries {verdict}"]
    lines += [str(Problem(entries[index], text)) for index, text in sorted(found)[:MAX_SHOWN]]
    if len(found) > MAX_SHOWN:
        lines.append(f"and {len(found) - MAX_SHOWN} more; python -m src.manifest check names them all")
    return "\n".join(lines)


if __name__ == "__main__":
    runpy.run_module("src.manifest_check", run_name="__main__")  # the command, which imports this module

"""Manifests as training reads them: all that is cheap to find wrong is found before the model loads.

`python -m src.manifest check` decodes the audio as well, and counts tokens.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from src.audio import AudioError, check_file
from src.manifest import Entry, ManifestError, Sample, read_entries, to_sample
from src.manifest_rules import Problem, audio_file, empty_texts, id_of, problems_of_length, repeated_ids

SHOWN = 10  # problems in one message
THREADS, PORTION = 16, 256  # that look for files, and how many files each takes at a time


def read_training_manifest(
    path: str | os.PathLike, stage: int, max_seconds: float, max_bad_fraction: float
) -> tuple[list[Sample], str]:
    """Read a manifest to train on, or to evaluate on; no audio is opened.

    Args:
        max_seconds: what of a clip is heard.
        max_bad_fraction: of the entries, how many may lack their audio, as in training.

    Returns:
        The samples, and what is only suspicious in words, empty where nothing is: ids that are there twice, empty
        ids, durations under 0.1 s or over `max_seconds`, in stage 1 empty transcriptions, few missing files.

    Raises ManifestError for what cannot be trained on, all of it: what `manifest.read_entries` finds, empty targets,
    more missing or empty audio files than `max_bad_fraction` allows.
    """
    entries, folder = list(read_entries(path)), Path(path).parent
    wrong, lacking, odd = [], [], []  # (index, what is wrong)
    absent = absent_files(filter(None, (audio_file(entry, folder) for entry in entries)))
    for index, entry in enumerate(entries):
        wrong += [(index, text) for text in (*entry.problems, *empty_texts(entry, ("target",)))]
        if reason := absent.get(audio_file(entry, folder)):
            lacking.append((index, reason))
        if not entry.problems:
            odd += [(index, text) for text in oddities_of(entry, stage, max_seconds)]
    odd += [(index, f"this audio_id stands in {place} as well") for index, place in repeated_ids(entries)]
    too_many = len(absent) > max_bad_fraction * len(entries)
    if too_many:
        wrong += lacking
    else:
        odd += lacking
    if wrong:
        reason = f"; --max_bad_fraction {max_bad_fraction:g} allows fewer missing files" if too_many else ""
        raise ManifestError(f"manifest {path}: {told(entries, wrong, 'cannot be trained on' + reason)}")
    samples = [to_sample(entry.value, folder) for entry in entries]
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


def oddities_of(entry: Entry, stage: int, max_seconds: float) -> Iterable[str]:
    """What training can live with, in words. Transcriptions matter in stage 1, whose targets they are."""
    yield from empty_texts(entry, ("audio_id", "transcription") if stage == 1 else ("audio_id",))
    yield from problems_of_length(entry.value["duration"], max_seconds)


def told(entries: Sequence[Entry], found: Sequence[tuple[int, str]], verdict: str) -> str:
    """How many entries a verdict is on, and the first of what was found, one line each, in the manifest's order."""
    lines = [f"{len({index for index, _ in found})} of {len(entries)} entries {verdict}"]
    lines += [str(Problem(entries[index].place, id_of(entries[index]), text)) for index, text in sorted(found)[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more; python -m src.manifest check names them all")
    return "\n".join(lines)

"""Find everything wrong with a manifest and its audio in one pass, and say what it holds.

    python -m src.manifest check data/librispeech.json
    python -m src.manifest check data/stage2.json --llm_path models/LLaDA-8B-Instruct

Prints one line per problem (line, id, what is wrong), then a summary: hours, durations, attributes and, with
`--llm_path`, text lengths in tokens. The durations are also drawn, as `<manifest>.durations.png`. The exit status is 1
if there was a problem, 2 if there is no manifest to be read, else 0. An empty transcription is a problem unless the
entry says `"transcribed": false`: sound without words, or words that nobody wrote down. Where one entry has a
`rejected` or a `chosen`, all must be preference pairs.
"""

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.audio import MAX_MISSING_SHARE, AudioError, AudioFacts, cut_within_frame, inspect_audio
from src.configuration_DIFFA import MAX_TEXT_TOKENS, WINDOW_SECONDS
from src.errors import reports_user_errors
from src.files import OutputError, check_outputs, write_file
from src.flag_types import positive_number, whole_number
from src.manifest import (
    MAX_DURATION,
    PAIR,
    ManifestEntry,
    Problem,
    Sample,
    empty_texts,
    odd_characters,
    problems_of_length,
    problems_of_pair,
    read_entries,
    repeated_ids,
    to_sample,
)
from src.prompts import SYSTEM_PROMPT, system_prompt_flag
from src.text_lengths import load_tokenizer, problems_of_text, text_lengths

DURATION_TOLERANCE = 0.1  # seconds between the manifest and the file
HISTOGRAM_BINS = 15
MAX_VALUES_SHOWN = 8  # of an attribute


@dataclass(frozen=True)
class Limits:
    """What a sample must keep to."""

    max_seconds: float = WINDOW_SECONDS
    max_length: int = MAX_TEXT_TOKENS  # text tokens, prompt and answer together
    system_prompt: str = SYSTEM_PROMPT  # what is counted with each prompt


@dataclass(frozen=True)
class ManifestReport:
    """What a check found."""

    entries: int
    problems: list[Problem]
    samples: list[Sample]  # the entries that have every key, of the right type
    seconds: dict[Path, float]  # real durations by file, where they can be told
    text_tokens: list[int]  # prompt and answer of each sample; empty without a tokenizer
    pair_tokens: list[tuple[int, int]]  # good and rejected answer of each preference pair; empty without a tokenizer


def check_manifest(path: Path, limits: Limits, tokenizer=None, jobs: int | None = None) -> ManifestReport:
    """Check every entry, its audio in `jobs` threads. Raises ManifestError where the file cannot be read at all.

    `tokenizer` is the LLM's; without one, text lengths are not looked at.
    """
    entries = list(read_entries(path))
    files = dict.fromkeys(filter(None, (entry.audio_file(path.parent) for entry in entries)))
    facts = dict(zip(files, inspect_all(files, jobs), strict=True))
    problems = {index: problems_of_entry(entry, facts, path.parent, limits) for index, entry in enumerate(entries)}
    samples = {i: to_sample(entry.value, path.parent) for i, entry in enumerate(entries) if not entry.problems}
    rejected = {i: replace(sample, target=sample.rejected) for i, sample in samples.items() if sample.rejected}
    lengths, rejected_lengths = (text_lengths(each, tokenizer, limits.system_prompt) for each in (samples, rejected))
    for index, (prompt, answer) in lengths.items():
        problems[index] += problems_of_text(prompt, answer, limits.max_length)
    for index, (prompt, answer) in rejected_lengths.items():
        if prompt < limits.max_length:  # else it is told above
            problems[index] += problems_of_text(prompt, answer, limits.max_length, "rejected answer")
    if any(key in entry.value for entry in entries if isinstance(entry.value, dict) for key in PAIR):
        for index, entry in enumerate(entries):
            problems[index] += problems_of_pair(entry)
    for index, place in repeated_ids(entries):
        problems[index].append(f"this audio_id is used in {place} as well")
    return ManifestReport(
        len(entries),
        [Problem(entries[index], text) for index in problems for text in problems[index]],
        list(samples.values()),
        {file: found.seconds for file, found in facts.items() if isinstance(found, AudioFacts)},
        [prompt + answer for prompt, answer in lengths.values()],
        [(lengths[index][1], answer) for index, (_, answer) in rejected_lengths.items()],
    )


def inspect_all(files: Iterable[Path], jobs: int | None = None) -> list[AudioFacts | AudioError]:
    """What each file holds, or why it cannot be used; in `jobs` threads, since decoding needs no lock of Python's."""

    def inspect(file: Path) -> AudioFacts | AudioError:
        try:
            return inspect_audio(file)
        except AudioError as error:
            return error

    files = list(files)
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        return list(tqdm(pool.map(inspect, files), total=len(files), unit="clip", desc="audio", disable=None))


def problems_of_entry(
    entry: ManifestEntry, facts: Mapping[Path, AudioFacts | AudioError], folder: Path, limits: Limits
) -> list[str]:
    """What is wrong with an entry and its audio, in words."""
    problems = [*entry.problems, *empty_texts(entry), *odd_characters(entry)]
    found = facts.get(entry.audio_file(folder))
    if isinstance(found, AudioError):
        problems.append(str(found))
    elif found:
        problems += found.warnings
        problems += problems_of_audio(found, entry.get("duration"), limits.max_seconds)
    return problems


def problems_of_audio(found: AudioFacts, told: object, max_seconds: float) -> Iterable[str]:
    """What is wrong with a readable file; `told` is the manifest's duration, if it is one."""
    yield from problems_of_length(found.seconds, max_seconds)
    if found.missing_seconds > MAX_MISSING_SHARE * found.seconds:  # less is how some programs write headers
        yield f"the file is cut: {found.seconds:.2f} s are left, the header promises {found.missing_seconds:.2f} more"
    elif found.ends_within_frame:
        yield cut_within_frame(found.seconds)
    if found.silent_seconds >= max_seconds:
        yield f"is silent for its first {found.silent_seconds:.2f} s, and {max_seconds:g} s are heard"
    if isinstance(told, (int, float)) and 0 < told < MAX_DURATION and abs(told - found.seconds) > DURATION_TOLERANCE:
        yield f"duration is {told:.2f} s, but the file lasts {found.seconds:.2f} s"


def summarise(report: ManifestReport, limits: Limits) -> str:
    """The summary's text."""
    lines = [f"{report.entries} entries, {len(report.samples)} of them complete, {len(report.seconds)} readable files"]
    hours: Counter[str] = Counter()
    for sample in report.samples:
        hours[sample.dataset] += report.seconds.get(sample.audio_filepath, sample.duration) / 3600
    lines += [f"{sum(hours.values()):.2f} hours" + "".join(f"; {ascii(k)[1:-1]} {v:.2f}" for k, v in hours.items())]
    if report.seconds:
        lines += ["durations of the files in seconds:", *draw_histogram(list(report.seconds.values()))]
    if report.text_tokens:
        tokens = np.array(report.text_tokens)
        over = int((tokens > limits.max_length).sum())
        middle, high = np.percentile(tokens, (50, 99))
        lines += [
            f"text in tokens: mean {tokens.mean():.0f}, median {middle:.0f}, 99 % {high:.0f}, longest {tokens.max()}; "
            f"{over} over the limit of {limits.max_length}"
        ]
    if pairs := sum(sample.rejected is not None for sample in report.samples):
        lines.append(f"{pairs} preference pairs")
    if report.pair_tokens:  # where one kind is longer, length is what is learnt
        good, bad = np.array(report.pair_tokens).T
        lines[-1] += (
            f"; tokens of good answers: mean {good.mean():.1f}, of rejected ones: mean {bad.mean():.1f}, longer than "
            f"their good ones in {(bad > good).mean():.0%}, shorter in {(bad < good).mean():.0%}"
        )
    for name, values in attribute_counts(report.samples).items():
        shown = ", ".join(f"{value} {count}" for value, count in values.most_common(MAX_VALUES_SHOWN))
        more = f", and {len(values) - MAX_VALUES_SHOWN} more" if len(values) > MAX_VALUES_SHOWN else ""
        lines.append(f"{name}: {shown}{more}")
    return "\n".join(lines)


def attribute_counts(samples: Sequence[Sample]) -> dict[str, Counter[str]]:
    """How often each attribute has each value, both in ASCII."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        attributes = sample.extra.get("attributes")
        for name, value in attributes.items() if isinstance(attributes, dict) else ():
            if isinstance(value, (str, int, float)):
                counts.setdefault(ascii(name)[1:-1], Counter())[ascii(value).strip("'")] += 1
    return counts


def bin_durations(seconds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Counts [bins] and edges [bins + 1] in seconds, from 0 to the longest clip."""
    return np.histogram(seconds, bins=HISTOGRAM_BINS, range=(0, max(seconds)))


def draw_histogram(seconds: Sequence[float], width: int = 50) -> list[str]:
    """The durations as lines of text."""
    counts, edges = bin_durations(seconds)
    return [
        f"{low:7.2f} - {high:7.2f} {count:8d} {'#' * int(np.ceil(width * count / counts.max()))}".rstrip()
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def draw_durations(seconds: Sequence[float], title: str) -> bytes:
    """PNG: the durations' histogram."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts, edges = bin_durations(seconds)
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    plot.stairs(counts, edges, fill=True, alpha=0.75)
    plot.set(xlabel="duration (s)", ylabel="clips", title=title, xlim=(0, edges[-1]))
    plot.grid(alpha=0.3, axis="y")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 for a manifest without problems, 1 for one with some, 2 if it could not be checked."""
    args = parse_args(argv)
    if args.figure:
        audio = (entry.audio_file(args.manifest.parent) for entry in read_entries(args.manifest))
        check_outputs([args.figure], [args.manifest, *audio])
    limits = Limits(args.max_seconds, args.max_length, args.system_prompt)
    tokenizer = load_tokenizer(args.llm_path) if args.llm_path else None
    report = check_manifest(args.manifest, limits, tokenizer, args.jobs)
    for problem in report.problems:
        print(str(problem).encode("utf-8", "backslashreplace").decode())
    print(summarise(report, limits))
    if report.seconds:
        figure = args.figure or args.manifest.with_name(f"{args.manifest.stem}.durations.png")
        try:
            write_file(figure, draw_durations(list(report.seconds.values()), args.manifest.name))
            print(f"durations drawn: {figure}")
        except (OSError, OutputError) as error:
            print(f"durations not drawn: {figure}: {error}. Pass --figure FILE", file=sys.stderr)
    wrong = len({problem.entry.place for problem in report.problems})
    print(f"{len(report.problems)} problem(s) in {wrong} of {report.entries} entries of {args.manifest}")
    return 1 if report.problems else 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m src.manifest", allow_abbrev=False)
    check = parser.add_subparsers(required=True, metavar="check").add_parser(
        "check", help="find everything wrong with a manifest and its audio", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    check.add_argument("manifest", type=Path)
    check.add_argument(
        "--max_seconds", type=positive_number, default=WINDOW_SECONDS, help="the window (default: %(default)g)"
    )
    check.add_argument("--llm_path", help="LLaDA, folder or hub name: count text lengths with its tokenizer")
    check.add_argument(
        "--max_length", type=whole_number(1), default=MAX_TEXT_TOKENS, help="text tokens (default: %(default)s)"
    )
    check.add_argument(
        "--system_prompt", type=system_prompt_flag, default="short", metavar="short|long|TEXT",
        help="what training begins conversations with, and so counts; long: FAMILY=diffa2 (default: %(default)s)",
    )  # fmt: skip
    check.add_argument("--figure", type=Path, help="durations as PNG (default: <manifest>.durations.png)")
    check.add_argument("--jobs", type=whole_number(1), help="files read at a time (default: the number of processors)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

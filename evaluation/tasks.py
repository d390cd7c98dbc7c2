"""From a benchmark's file to what the model is asked: items, the flags that name input and output."""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.benchmark import Benchmark, answers_not_offered, is_withheld
from evaluation.hub_files import find_files
from evaluation.parquet_audio import ParquetAudio, read_rows
from evaluation.result_files import check_records, read_benchmark
from src.configuration_DIFFA import ROOT
from src.family import FAMILIES
from src.inference_flags import OptionError, make_parser
from src.text_faults import faults_of

# What the flags were called before; published commands use some of them.
INPUT_FLAGS = ("--input", "--input_json", "--input_jsonl", "--input_json_path")
OUTPUT_FLAGS = ("--output", "--output_json", "--output_jsonl", "--output_json_path")


@dataclass(frozen=True)
class BenchmarkItem:
    """One question: what the benchmark says of it, what the model is told, what it hears."""

    record: dict  # written back with the answer
    instruction: str
    audio: Path | ParquetAudio


@dataclass(frozen=True)
class Task:
    """One benchmark file to be answered into one output."""

    benchmark: Benchmark
    items: Sequence[BenchmarkItem]
    output: Path
    inputs: Sequence[Path] = ()  # the files that the items were read from
    about: Mapping[str, str] | None = None  # what its `.meta.json` tells the scorer besides
    finished: Callable[[Path], None] | None = None  # makes other files of the output once that is there


def benchmark_parser(
    benchmark: Benchmark,
    docstring: str,
    more_inputs: Sequence[str] = (),
    more_outputs: Sequence[str] = (),
    required: bool = True,
) -> argparse.ArgumentParser:
    """The flags of a benchmark's script; `--input` and `--output` keep the names that they had before, and more.

    Without `required`, the script adds flags that may stand in place of these two.
    """
    parser = make_parser(f"{docstring}\n{settings_text(benchmark)}")
    default = ROOT / "data" / benchmark.file if benchmark.file else None
    parser.add_argument(
        *INPUT_FLAGS, *more_inputs, dest="input", type=Path, default=default, required=required and default is None,
        metavar="PATH", help=f"{benchmark.title}'s items" + (" (default: %(default)s)" if default else ""),
    )  # fmt: skip
    parser.add_argument(
        *OUTPUT_FLAGS, *more_outputs, dest="output", type=Path, required=required, metavar="PATH", help="the answers"
    )
    return parser


def settings_text(benchmark: Benchmark) -> str:
    """The default settings of each model family, for --help."""
    of = benchmark.settings_of
    lines = [
        f"Default settings, {of}'s since DIFFA publishes none:"
        if of
        else "Published settings, the defaults where nothing else is said:"
    ]
    for family, settings in benchmark.settings.items():
        flags = " ".join(f"--{name} {value}" for name, value in asdict(settings).items())
        lines.append(f"    {FAMILIES[family]}: {flags}")
    return "\n".join(lines)


def with_settings(args: argparse.Namespace, benchmark: Benchmark, family: str) -> argparse.Namespace:
    """The flags, with the benchmark's settings for a model family where none was given."""
    settings = asdict(benchmark.settings[family])
    return argparse.Namespace(**vars(args) | {n: v for n, v in settings.items() if getattr(args, n) is None})


def task_of(benchmark: Benchmark, args: argparse.Namespace) -> Task:
    """The task that the flags of `benchmark_parser` name. Raises BenchmarkFileError."""
    items = read_items(benchmark, args.input, args.audio_root)
    return Task(benchmark, items, args.output, find_files(args.input))


def read_items(benchmark: Benchmark, path: Path, audio_root: Path | None) -> list[BenchmarkItem]:
    """The items of a file, or of the Parquet files that stand for it (see `hub_files.find_files`), in order.

    Raises BenchmarkFileError naming everything broken.
    """
    files = find_files(path)
    read = read_parquet if files[0].suffix == ".parquet" else read_json
    found = read(benchmark, files, audio_root)
    public = [(n, record) for n, (record, _) in enumerate(found, start=1) if not is_withheld(benchmark, record)]
    for fault in answers_not_offered(benchmark, public):
        print(f"warning: {path} item {fault}", file=sys.stderr)
    items = [BenchmarkItem(record, benchmark.prompt(record), audio) for record, audio in found]
    for number, item in enumerate(items, start=1):
        for fault in faults_of(item.instruction):
            print(f"warning: {path} item {number}: what is asked {fault}", file=sys.stderr)
    return items


def read_json(
    benchmark: Benchmark, files: Sequence[Path], audio_root: Path | None
) -> list[tuple[dict, Path | ParquetAudio]]:
    """The records of a JSON file, which name their audio."""
    [file] = files
    records = read_benchmark(file, benchmark.required, benchmark.source, benchmark.problem, benchmark.form)
    return [(record, find_audio(record[benchmark.audio], file, audio_root)) for record in records]


def read_parquet(
    benchmark: Benchmark, files: Sequence[Path], audio_root: Path | None
) -> list[tuple[dict, Path | ParquetAudio]]:
    """The records of Parquet files, and their audio: inside, or else where its path says."""
    found, places = [], []
    for file in files:
        for number, (row, path, sound) in enumerate(read_rows(file, benchmark.source), start=1):
            record = benchmark.form({benchmark.audio: path, **row} if path else row)
            found.append((record, sound or find_audio(str(record.get(benchmark.audio)), file, audio_root)))
            places.append(f"({file.name}) row {number}")
    records = list(zip(places, (record for record, _ in found), strict=True))
    check_records(files[0].parent, records, [], benchmark.required, benchmark.source, benchmark.problem)
    return found


def find_audio(name: str, path: Path, audio_root: Path | None) -> Path:
    """Where the audio `name` of the benchmark file `path` lies; an absolute name stays as it is."""
    return (audio_root or Path(path).parent) / name


def swap(count: int, seed: int) -> list[int]:
    """A seeded permutation of `count` items that leaves none in its place (one cycle: Sattolo's algorithm)."""
    if count < 2:
        raise OptionError("--swap_audio needs at least two items")
    order, rng = list(range(count)), random.Random(seed)
    for last in range(count - 1, 0, -1):
        other = rng.randrange(last)
        order[last], order[other] = order[other], order[last]
    return order

"""A benchmark's questions and answers to them, in whatever published form: JSON, Parquet, logs of lmms-eval."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from evaluation.benchmark import Benchmark
from evaluation.published_forms import from_log, is_logged, with_questions
from evaluation.result_files import Result, read_records, read_result


def read_questions(benchmark: Benchmark, path: Path) -> tuple[list[dict], list[str]]:
    """The records of a benchmark file, or of the Parquet files that stand for it, and broken lines."""
    if path.is_file() and path.suffix != ".parquet":
        records, broken = read_records(path)
    else:
        from evaluation import hub_files  # PyArrow, which few scorers need

        files = hub_files.find_files(path)
        if files[0].suffix != ".parquet":
            records, broken = read_records(files[0])
        else:
            records, broken = [row for file in files for row in hub_files.read_records(file, benchmark.source)], []
    return [benchmark.form(record) for record in records], broken


def read_answers(benchmark: Benchmark, path: Path, reference: Path | None) -> Result:
    """A result file of a multiple-choice benchmark; see `read_result`."""
    questions = partial(read_questions, benchmark)
    read = partial(read_logged, benchmark, reference=reference, read_reference=questions)
    return read_result(path, benchmark.key, benchmark.answer_fields, reference, questions, read)


def read_logged(
    benchmark: Benchmark,
    path: Path,
    reference: Path | None,
    read_reference: Callable[[Path], tuple[Sequence[dict], list[str]]],
) -> tuple[list[dict], list[str]]:
    """The records of a result file, and broken lines; those of a log of lmms-eval with their questions."""
    records, broken = read_records(path)
    if any(map(is_logged, records)):
        asked = [from_log(record, benchmark.answer_fields[0]) for record in records if is_logged(record)]
        records = with_questions(path, asked, read_reference(reference)[0] if reference else None)
    return [benchmark.form(record) for record in records], broken

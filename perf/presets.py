"""What faster decoding and rounded weights change on a trained model; by default, on the miniature.

    bash demo.sh && python perf/presets.py --json presets.json
    python perf/presets.py --model_path exp/stage2 --data DIR --output exp/presets

Answers MMSU, MMAU and three subsets of VoiceBench by the run scripts, once with each mode, and holds forward passes,
texts and right answers against those of exact decoding. "Seen" are tokens of an answer's text, "unseen" those that were
computed besides. A second run answers only what is missing.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import torch

from evaluation.result_files import answer_of, read_records
from evaluation.scoring import format_table
from perf import measure
from src.errors import UserError, reports_user_errors
from src.files import write_file

MODES = {  # the first one is what the others are held against
    "exact": ["--preset", "exact"],
    "exact, stop_in_block": ["--preset", "exact", "--stop_at_eos", "--stop_in_block"],
    "fast": ["--preset", "fast"],
    "fast, stop_in_block": ["--preset", "fast", "--stop_in_block"],
    "dual, threshold 0.9": ["--cache", "dual", "--threshold", "0.9"],
    "fastest": ["--preset", "fastest"],
    "exact, int8": ["--preset", "exact", "--quantize", "int8"],
    "exact, int4": ["--preset", "exact", "--quantize", "int4"],
}
SUBSETS = "openbookqa sd-qa advbench"
ANSWER_FIELDS = ("response", "model_prediction")


@dataclass(frozen=True)
class PresetRow:
    """One benchmark, answered with one mode."""

    mode: str
    benchmark: str
    items: int
    passes: float  # of the LLM, an answer
    passes_fewer: float  # times, than in exact decoding
    seen: float  # tokens of an answer's text
    unseen: float  # tokens of an answer that were computed besides: end tokens, for the most part
    same_text: float  # share of the answers
    right: int  # by the official rule; sd-qa: that contain the reference
    right_exact: int


def answer(mode: str, model_path: Path, data: Path, folder: Path) -> None:
    """Answer and score all benchmarks with a mode, into a folder."""
    common = {"MODEL_PATH": str(model_path), "BATCH_SIZE": os.environ.get("BATCH_SIZE", "32")}
    for script, settings in (
        ("run_mmsu_inference.sh", {"INPUT": "mmsu.jsonl", "OUTPUT": "mmsu.jsonl"}),
        ("run_mmau_inference.sh", {"INPUT": "mmau.json", "OUTPUT": "mmau.json"}),
        ("run_voicebench_inference.sh", {"INPUT": "voicebench", "OUTPUT": "voicebench", "DATA": SUBSETS}),
    ):
        paths = {"INPUT": str(data / settings["INPUT"]), "OUTPUT": str(folder / settings["OUTPUT"])}
        environment = os.environ | common | settings | paths
        if subprocess.run(["bash", measure.ROOT / script, *MODES[mode]], env=environment).returncode:
            raise UserError(f"{script} failed with {mode} decoding; its message is above")


@dataclass(frozen=True)
class Result:
    """What one mode gave in one benchmark."""

    benchmark: str
    texts: list[str]
    passes: float  # an answer
    seen: float
    unseen: float
    right: int


def results_in(folder: Path) -> Iterator[Result]:
    """What every result file below a folder holds."""
    for file in sorted(folder.rglob("*.scores.json")):
        result, scores = file.with_name(file.name.removesuffix(".scores.json")), json.loads(file.read_text())
        meta = json.loads(result.with_name(f"{result.name}.meta.json").read_text())
        texts = [answer_of(record, ANSWER_FIELDS) or "" for record in read_records(result)[0]]
        if "contains_reference" in scores:
            rate = scores["contains_reference"]
        else:
            rate = scores["levels"]["total"]["total"]["official"]
        name = scores.get("subset") or scores["benchmark"]
        if "fixed_tokens_per_item" not in meta:
            raise UserError(f"{result} was answered by an earlier version; pass another --output")
        seen = meta["tokens_per_item"]
        yield Result(
            name, texts, meta["forward_passes_per_item"], seen, meta["fixed_tokens_per_item"] - seen,
            round(rate * len(texts)),
        )  # fmt: skip


def compare(results: dict[str, list[Result]]) -> list[PresetRow]:
    """Rows of every mode's results, by the mode's name; the first mode is the standard."""
    standard = {result.benchmark: result for result in next(iter(results.values()))}
    rows = []
    for mode, found in results.items():
        for result in found:
            exact = standard[result.benchmark]
            same = sum(a == b for a, b in zip(result.texts, exact.texts, strict=True)) / len(result.texts)
            rows.append(PresetRow(
                mode, result.benchmark, len(result.texts), result.passes, exact.passes / result.passes, result.seen,
                result.unseen, same, result.right, exact.right,
            ))  # fmt: skip
        rows.append(together(mode, [row for row in rows if row.mode == mode]))
    return rows


def together(mode: str, rows: list[PresetRow]) -> PresetRow:
    items = sum(row.items for row in rows)

    def mean(value: Callable[[PresetRow], float]) -> float:
        return sum(row.items * value(row) for row in rows) / items

    passes, passes_exact = mean(lambda row: row.passes), mean(lambda row: row.passes * row.passes_fewer)
    return PresetRow(
        mode, "together", items, passes, passes_exact / passes, mean(lambda row: row.seen),
        mean(lambda row: row.unseen), mean(lambda row: row.same_text), sum(row.right for row in rows),
        sum(row.right_exact for row in rows),
    )  # fmt: skip


def table(rows: list[PresetRow]) -> str:
    header = ["", "", "items", "passes", "times fewer", "seen", "unseen", "same text", "right", "points"]
    lines = [
        [
            row.mode, row.benchmark, str(row.items), f"{row.passes:.2f}", f"{row.passes_fewer:.1f}",
            f"{row.seen:.2f}", f"{row.unseen:.2f}", f"{row.same_text:.1%}", str(row.right),
            f"{100 * (row.right - row.right_exact) / row.items:+.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return format_table(header, lines)


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    out = measure.ROOT / "demo" / "out"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_path", type=Path, default=out / "stage2", help="(default: the demo's)")
    parser.add_argument("--data", type=Path, default=out / "data" / "benchmarks", help="(default: the demo's)")
    parser.add_argument("--output", type=Path, default=out / "presets", help="folder of results (default: the demo's)")
    parser.add_argument("--json", type=Path, help="write the table there")
    args = parser.parse_args(argv)
    results = {}
    for number, mode in enumerate(MODES):
        folder = args.output.resolve() / str(number)
        answer(mode, args.model_path.resolve(), args.data.resolve(), folder)
        results[mode] = list(results_in(folder))
    rows = compare(results)
    print(table(rows))
    if args.json:
        [meta, *_] = sorted((args.output / "0").rglob("*.meta.json"))
        run = measure.machine(torch.device(json.loads(meta.read_text())["device"].partition(" ")[0]))
        write_file(args.json, json.dumps({"rows": [asdict(row) for row in rows], "run": run}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

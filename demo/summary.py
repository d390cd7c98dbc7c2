"""Put the miniature's figures together: one table, `summary.json`, and two pictures.

    python demo/summary.py demo/out

`demo.sh` ends with it. Rates are fractions of 1.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from evaluation.benchmarks import BENCHMARKS, VOICEBENCH
from evaluation.scoring import format_interval, format_table, percent
from src.errors import UserError, reports_user_errors
from src.files import write_file

BAR = {"facecolor": "tab:blue", "edgecolor": "none", "alpha": 0.75}
OUTLINE = {"facecolor": "white", "edgecolor": "tab:blue"}
SMOOTHING = 8  # logged losses averaged into one point of the thick line


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table: a benchmark, or one of its categories."""

    name: str
    items: int
    official: float
    strict: float
    interval: tuple[float, float]  # 95 %, of the official rate
    chance: float | None
    swapped_audio: float | None  # the official rate when every item is given another item's audio


def read(path: Path) -> dict:
    """Raises UserError where demo.sh has not written the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Pass the output folder of demo.sh, once that has ended") from None


def row_of(name: str, score: Mapping, swapped: Mapping | None, chance: float | None = None) -> ScoreRow:
    """A row from the scores of one group, as `evaluation.scoring` writes them."""
    return ScoreRow(
        name, score["n"], score["official"], score["strict"], tuple(score["official_interval"]),
        score["chance"] if chance is None else chance, swapped and swapped["official"],
    )  # fmt: skip


def choice_rows(results: Path, file: str, level: str) -> tuple[ScoreRow, list[ScoreRow]]:
    """MMSU or MMAU: the total, and one row for each group of a level."""
    scores, swapped = (read(folder / f"{file}.scores.json")["levels"] for folder in (results, results / "swapped"))
    rows = [row_of(name, score, swapped[level].get(name)) for name, score in scores[level].items()]
    return row_of("total", scores["total"]["total"], swapped["total"]["total"]), rows


def voicebench_rows(results: Path, swapped: Path | None) -> list[ScoreRow]:
    """One row for each subset. Refusing has no wrong clip to swap in: every clip of advbench asks for a refusal."""
    files = sorted((results / "voicebench").glob("*.scores.json"))
    return [voicebench_row(path, read(swapped / "voicebench" / path.name) if swapped else None) for path in files]


def voicebench_row(path: Path, swapped: Mapping | None) -> ScoreRow:
    """A subset's row, from its file of scores and the control's scores."""
    scores = read(path)
    if scores["evaluator"] == "qa":  # scored by whether the response contains the reference
        references = [json.loads(line)["reference"] for line in path.with_suffix("").with_suffix("").open()]
        chance = max(references.count(reference) for reference in references) / len(references)
        hits, low_high = scores["contains_reference"], tuple(scores["contains_reference_interval"])
        control = swapped and swapped["contains_reference"]
        return ScoreRow(scores["subset"], scores["items"], hits, hits, low_high, chance, control)
    harm = scores["evaluator"] == "harm"
    control = None if harm or not swapped else swapped["levels"]["total"]["total"]
    return row_of(scores["subset"], scores["levels"]["total"]["total"], control)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def group(total: ScoreRow | None, rows: Sequence[ScoreRow]) -> dict:
    """A benchmark's part of `summary.json`; without a total, its figures are means over rows that have a control."""
    fields = ("official", "strict", "chance", "swapped_audio")
    counted = [total] if total else [row for row in rows if row.swapped_audio is not None]
    return {
        **{name: mean([getattr(row, name) for row in counted]) for name in fields},
        "groups": {
            row.name: {"items": row.items, "interval": row.interval, **{name: getattr(row, name) for name in fields}}
            for row in rows
        },
    }


def summarise(out: Path) -> dict:
    """What `summary.json` says, from the results under `out`."""
    results = out / "results"
    asr = read(results / "asr.jsonl.scores.json")
    return {
        "wer": asr["wer"],
        "wer_interval": asr["wer_interval"],
        "mmsu": group(*choice_rows(results, "mmsu.jsonl", "task_name")),
        "mmau": group(*choice_rows(results, "mmau.json", "task")),
        "voicebench": group(None, voicebench_rows(results, results / "swapped")),
        **run_facts(out),
    }


def run_facts(out: Path) -> dict:
    """How long each step of the demo took, and the seed."""
    seconds = {path.name: int(path.read_text()) for path in sorted((out / "seconds").iterdir())}
    return {"seconds": seconds, "seed": read(out / "data" / "data.json")["seed"]}


def table(summary: Mapping) -> str:
    lines = []
    for benchmark in ("mmsu", "mmau", "voicebench"):
        scores = summary[benchmark]
        lines.append([benchmark.upper(), "", percent(scores["official"]), "", percent(scores["strict"]),
                      percent(scores["chance"]), percent(scores["swapped_audio"])])  # fmt: skip
        for name, row in scores["groups"].items():
            lines.append([f"  {name}", row["items"], percent(row["official"]), format_interval(row["interval"]),
                          percent(row["strict"]), percent(row["chance"]), percent(row["swapped_audio"])])  # fmt: skip
    wer = f"word error rate after stage 1: {percent(summary['wer'])} {format_interval(summary['wer_interval'])}"
    header = ["", "items", "official", "95 %", "strict", "chance", "swapped audio"]
    return (
        f"{wer} (unseen sentences, unseen voices)\n\n{format_table(header, lines)}\n"
        "VoiceBench: the mean of the subsets with a control; sd-qa: the answer holds the reference (no judge is asked)"
    )


def draw_losses(out: Path, path: Path) -> None:
    """Training loss of both stages: every logged value, and a running mean."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, stage in zip(axes, ("stage1", "stage2"), strict=True):
        history = [entry for entry in read(out / stage / "trainer_state.json")["log_history"] if "loss" in entry]
        steps, losses = [entry["step"] for entry in history], [entry["loss"] for entry in history]
        smooth = [mean(losses[max(0, i - SMOOTHING + 1) : i + 1]) for i in range(len(losses))]
        axis.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=1)
        axis.plot(steps, smooth, color="tab:blue", linewidth=2)
        axis.set(title=f"Stage {stage[-1]}", xlabel="step", ylabel="loss (CE / t', a token)", yscale="log")
        axis.grid(alpha=0.3, which="both")
    save_figure(figure, path)


def draw_scores(summary: Mapping, path: Path) -> None:
    """Accuracy per category with its interval, chance, and the swapped-audio control; an outline if not official."""
    rows = [
        (f"{BENCHMARKS[benchmark].title}: {name}", row)
        for benchmark in ("mmsu", "mmau", "voicebench")
        for name, row in summary[benchmark]["groups"].items()
    ][::-1]
    unofficial = f"{VOICEBENCH.title}: sd-qa"  # no judge is asked: the response holds the reference
    figure, axis = plt.subplots(figsize=(9, 0.36 * len(rows) + 1.2), layout="constrained")
    for y, (_, row) in enumerate(rows):
        low, high = row["interval"]
        style = OUTLINE if rows[y][0] == unofficial else BAR
        axis.barh(y, 100 * row["official"], **style)
        axis.plot([100 * low, 100 * high], [y, y], color="black", linewidth=1.5)
        if row["chance"] is not None:
            axis.plot([100 * row["chance"]] * 2, [y - 0.4, y + 0.4], color="tab:red", linewidth=2)
        if row["swapped_audio"] is not None:
            axis.plot(100 * row["swapped_audio"], y, "o", color="tab:orange", markersize=6)
    axis.barh(0, 0, label="right by the official rule (MMSU: DIFFA's)", **BAR)
    axis.barh(0, 0, label="not the official rule: holds the reference", **OUTLINE)
    axis.plot([], [], color="black", linewidth=1.5, label="95 % interval")
    axis.plot([], [], color="tab:red", linewidth=2, label="chance")
    axis.plot([], [], "o", color="tab:orange", label="audio swapped between items")
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    title = "The miniature on its own questions: not to be compared with published scores"
    axis.set(xlim=(0, 102), xlabel="%", title=title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axis.grid(alpha=0.3, axis="x")
    save_figure(figure, path)


def save_figure(figure: plt.Figure, path: Path) -> None:
    temporary = path.with_suffix(".partial.png")
    figure.savefig(temporary, dpi=120)
    plt.close(figure)
    temporary.replace(path)


def folder_of_demo(description: str) -> Path:
    """What the command line names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="demo.sh's folder")
    return parser.parse_args().out


@reports_user_errors
def main() -> None:
    out = folder_of_demo(__doc__)
    summary = summarise(out)
    write_file(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    draw_losses(out, out / "losses.png")
    draw_scores(summary, out / "scores.png")
    print(f"\n{table(summary)}\n")
    print(", ".join(f"{name} {seconds} s" for name, seconds in summary["seconds"].items()))
    print(f"figures: {out}/losses.png, {out}/scores.png; numbers: {out}/summary.json")
    print(f"checkpoints: {out}/stage1, {out}/stage2; data: {out}/data; answers and their scores: {out}/results")


if __name__ == "__main__":
    sys.exit(main())

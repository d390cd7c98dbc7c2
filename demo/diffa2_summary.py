"""Put the figures of DIFFA-2's stages on the miniature together: one table, `diffa2.json`, and one picture.

    python demo/diffa2_summary.py demo/out

`demo.sh --diffa2` ends with it. Rates are fractions of 1.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from demo.summary import ScoreRow, folder_of_demo, read, row_of, run_facts, save_figure, voicebench_rows
from evaluation.scoring import format_interval, format_table, percent
from src.errors import UserError, reports_user_errors
from src.files import write_file
from src.run_card import read_log, series, smoothed

STAGES = {2: "both adapters", 3: "LoRA", 4: "preferences"}
MARGIN, WINS = "margin", "chosen_wins"  # what stage 4 logs of a pair; of held-out pairs with eval_ before it


def results_of(out: Path, stage: int) -> Path:
    """Where the answers of a stage's checkpoint are."""
    return out / "results" if stage == 2 else out / "results" / f"stage{stage}"


def benchmark_rows(results: Path) -> list[ScoreRow]:
    """MMSU and MMAU in all, and each of VoiceBench's subsets."""
    totals = [
        row_of(name, read(results / f"{file}.scores.json")["levels"]["total"]["total"], None)
        for name, file in (("MMSU", "mmsu.jsonl"), ("MMAU", "mmau.json"))
    ]
    return totals + [replace(row, name=f"VoiceBench {row.name}") for row in voicebench_rows(results, None)]


def summarise(out: Path) -> dict:
    """What `diffa2.json` says, from the results and the log under `out`."""
    log = read_log(out / "stage4")
    held_out = {name: [float(v) for v in series(log, f"eval_{name}")[1]] for name in (MARGIN, WINS)}
    if not held_out[MARGIN]:
        raise UserError(
            f"{out}/stage4 logged no eval_{MARGIN}: it was not evaluated on held-out pairs; run demo.sh again"
        )
    return {
        "wer": read(out / "results" / "asr.jsonl.scores.json")["wer"],
        "stages": {
            stage: {row.name: asdict(row) for row in benchmark_rows(results_of(out, stage))} for stage in STAGES
        },
        "held_out_pairs": {
            "pairs": len(read(out / "data" / "pairs_test.json")),
            "steps": [int(step) for step in series(log, f"eval_{MARGIN}")[0]],
            "margin": held_out[MARGIN],
            "chosen_wins": held_out[WINS],
        },
        **run_facts(out),
    }


def table(summary: Mapping) -> str:
    """Stages by benchmarks, and what was reached on held-out pairs."""
    lines = []
    for name, first in summary["stages"][2].items():
        cells = [f"{percent(row['official'])} {format_interval(row['interval'])}" for row in rows_of(summary, name)]
        lines.append([name, first["items"], "" if first["chance"] is None else percent(first["chance"]), *cells])
    header = ["", "items", "chance", *(f"stage {stage}: {what}" for stage, what in STAGES.items())]
    pairs = summary["held_out_pairs"]
    steps, wins, margin = (pairs[name][-1] for name in ("steps", "chosen_wins", "margin"))
    return (
        f"{format_table(header, lines)}\n"
        "official accuracy with its 95 % interval; sd-qa: the answer holds the reference (no judge is asked)\n"
        f"word error rate after stage 1: {percent(summary['wer'])}\n\n"
        f"{pairs['pairs']} held-out pairs after {steps} steps of stage 4: the right answer gains more than the wrong "
        f"one in {percent(wins)}, by a margin of {margin:.2f} in the mean (before the first step: by 0 in all)"
    )


def rows_of(summary: Mapping, name: str) -> list[Mapping]:
    """A benchmark's row after each stage."""
    return [rows[name] for rows in summary["stages"].values()]


def draw_margins(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """Stage 4 over its steps: the margin between right and wrong answer, and in how many pairs it is above 0."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    names = ((MARGIN, "margin (beta times the difference of gains)"), (WINS, "share of pairs with a margin above 0"))
    for axis, (name, label) in zip(axes, names, strict=True):
        steps, values = series(log, name)
        axis.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=1)
        axis.plot(steps, smoothed(values), color="tab:blue", linewidth=2, label="training pairs")
        axis.plot(*series(log, f"eval_{name}"), "o-", color="tab:orange", label="held-out pairs")
        axis.axhline(0 if name == MARGIN else 0.5, color="tab:red", linewidth=1)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle("Stage 4: what the policy gains over its reference")
    save_figure(figure, path)


@reports_user_errors
def main() -> None:
    out = folder_of_demo(__doc__)
    summary = summarise(out)
    write_file(out / "diffa2.json", json.dumps(summary, indent=2) + "\n")
    draw_margins(read_log(out / "stage4"), out / "margins.png")
    print(f"\n{table(summary)}\n")
    print(", ".join(f"{name} {seconds} s" for name, seconds in summary["seconds"].items()))
    print(f"figure: {out}/margins.png; numbers: {out}/diffa2.json")


if __name__ == "__main__":
    sys.exit(main())

"""Draw a training run's curves, or those of several runs in one figure, and tell what each run was and came to.

    python -m src.plot_training exp/stage1                      # writes exp/stage1/training.png
    python -m src.plot_training exp/stage1 --output curves.png
    python -m src.plot_training exp/a exp/b exp/c --output runs.png

Of one run: losses as they were logged and smoothed, validation loss and word error rate, losses by masking rate,
learning rate, gradient norm and throughput. Of several: losses, validation loss, word error rate and throughput over
each other, and what differs between them in a table. A run that is still going is drawn up to its last checkpoint.
Printed in both cases, where a run has left its run.json: settings, state of git, losses, word error rate, throughput.
"""

import argparse
import io
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from src.errors import reports_user_errors
from src.files import check_outputs, write_file
from src.run_card import Log, as_table, card, differing, read_log, series, smoothed
from src.training_checkpoint import RUN_RECORD

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MAX_CELL = 28  # characters
ROW_INCHES, FIGURE_INCHES = 0.24, 7.0  # height of the table's rows, and of the curves


def draw(log: Log, title: str) -> bytes:
    """The curves as PNG."""
    figure, ((loss, binned), (rate, speed)) = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    steps, values = series(log, "loss")
    loss.plot(steps, values, alpha=0.3, color="C0", label="training, as logged")
    loss.plot(steps, smoothed(values), color="C0", label="training, smoothed")
    if any("eval_loss" in entry for entry in log):
        loss.plot(*series(log, "eval_loss"), color="C1", marker="o", markersize=3, label="validation, fixed masks")
    if any("eval_wer" in entry for entry in log):
        wer = loss.twinx()
        wer.plot(*series(log, "eval_wer"), color="C2", marker="o", markersize=3)
        wer.set(ylim=(0, None))
        loss.plot([], [], color="C2", marker="o", markersize=3, label="word error rate (right)")
    top = 1.1 * np.quantile(values, 0.98)  # a rarely masked sample weighs up to a thousandfold
    loss.set(title="loss", ylim=(0, top))
    for name in sorted({name for entry in log for name in entry if name.startswith("loss_t")}):
        steps, values = series(log, name)
        binned.plot(steps, smoothed(values), label=name.removeprefix("loss_"))
    binned.set(title="cross entropy of a masked token, by masking rate")
    rate.plot(*series(log, "learning_rate"), color="C0", label="learning rate")
    rate.set(title="learning rate, gradient norm (right)")
    norm = rate.twinx()
    norm.plot(*series(log, "grad_norm"), color="C3", alpha=0.5, label="gradient norm")
    norm.set_yscale("log")
    speed.plot(*series(log, "samples_per_second"), label="clips")
    speed.plot(*series(log, "audio_seconds_per_second"), label="seconds of audio")
    speed.set(title="throughput, a second", ylim=(0, None))
    for axis in (loss, binned, rate, speed):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    for axis in (loss, binned, speed):
        axis.legend(fontsize=8) if axis.lines else None
    figure.suptitle(title)
    return as_png(figure)


def as_png(figure: plt.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    return buffer.getvalue()


def draw_runs(logs: Mapping[str, Log], cards: Mapping[str, Mapping[str, str]]) -> bytes:
    """Several runs' curves over each other, and a table of what differs between them, as PNG."""
    rows = differing(cards)
    table_inches = ROW_INCHES * (len(rows) + 2)
    figure = plt.figure(figsize=(11, FIGURE_INCHES + table_inches), layout="constrained")
    curves, below = figure.subfigures(2, height_ratios=(FIGURE_INCHES, table_inches))
    panels = {
        "loss": "training loss, smoothed", "eval_loss": "validation loss", "eval_wer": "word error rate",
        "samples_per_second": "throughput, clips a second",
    }  # fmt: skip
    for axis, (name, title) in zip(curves.subplots(2, 2).flat, panels.items(), strict=True):
        for number, (run, log) in enumerate(logs.items()):
            steps, values = series(log, name)
            if len(values):
                marker = "o" if name.startswith("eval") else None
                values = smoothed(values) if name == "loss" else values
                axis.plot(steps, values, color=f"C{number}", marker=marker, markersize=3, label=run)
        axis.set(title=title, xlabel="step")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8) if axis.lines else axis.text(0.5, 0.5, "not measured", ha="center")
    axis = below.subplots()
    axis.axis("off")
    cells = [[shortened(value) for value in row] for row in rows.values()] or [["nothing"] * len(logs)]
    table = axis.table(
        cells, rowLabels=list(rows) or ["differs"], colLabels=[shortened(run) for run in logs], loc="center"
    )
    table.set_fontsize(8)
    return as_png(figure)


def shortened(text: str) -> str:
    return text if len(text) <= MAX_CELL else f"...{text[3 - MAX_CELL :]}"


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, train.py's --output_dir")
    parser.add_argument(
        "--output",
        type=Path,
        help="the PNG file (default: training.png in the run's folder; runs.png for several)",
    )
    args = parser.parse_args(argv)
    runs = list(dict.fromkeys(args.runs))
    several = len(runs) > 1
    output = args.output or (Path("runs.png") if several else runs[0] / "training.png")
    check_outputs([output], (file for run in runs for file in run.rglob("*") if file.suffix != ".png"))
    logs = {name_of(run, runs): read_log(run) for run in runs}
    cards = {name: card(run, log) for run, (name, log) in zip(runs, logs.items(), strict=True)}
    write_file(output, draw_runs(logs, cards) if several else draw(*logs.values(), runs[0].name))
    if several or (runs[0] / RUN_RECORD).exists():
        print(as_table(cards))
    print(output)
    return 0


def name_of(run: Path, runs: list[Path]) -> str:
    """A run's folder, by its name alone where that tells it from the others."""
    return run.name if [other.name for other in runs].count(run.name) == 1 else str(run)


if __name__ == "__main__":
    sys.exit(main())

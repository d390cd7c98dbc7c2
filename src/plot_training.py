"""Draw a training run's curves.

    python -m src.plot_training exp/stage1                      # writes exp/stage1/training.png
    python -m src.plot_training exp/stage1 --output curves.png

Losses as they were logged and smoothed, validation loss and word error rate, losses by masking rate, learning rate,
gradient norm and throughput; a run that is still going is drawn up to its last checkpoint.
"""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from src.checkpoint import CheckpointError
from src.errors import reports_user_errors
from src.files import check_outputs, write_file
from src.training_checkpoint import last_complete

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STATE = "trainer_state.json"
SMOOTHING_SHARE = 20  # means are of one in so many points

Log = Sequence[Mapping[str, float]]  # an entry for each time something was logged, with its `step`


def read_log(run: Path) -> Log:
    """What a run logged. Raises CheckpointError where there is no log yet."""
    folders = (run, last_complete(run))
    state = next((folder / STATE for folder in folders if folder and (folder / STATE).exists()), None)
    if state is None:
        raise CheckpointError(f"{run} holds neither {STATE} nor a complete checkpoint: is it a training run's folder?")
    log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    if not any("loss" in entry for entry in log):
        raise CheckpointError(f"{state} holds no losses yet")
    return log


def series(log: Log, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of what was logged under a name."""
    points = [(entry["step"], entry[name]) for entry in log if name in entry]
    steps, values = np.array(points, dtype=float).reshape(-1, 2).T
    return steps, values


def smoothed(values: np.ndarray) -> np.ndarray:
    """Mean of each value and those before it, a twentieth of all."""
    window = max(1, len(values) // SMOOTHING_SHARE)
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    return buffer.getvalue()


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder, train.py's --output_dir")
    parser.add_argument("--output", type=Path, help="the PNG file (default: training.png in the run's folder)")
    args = parser.parse_args(argv)
    output = args.output or args.run / "training.png"
    check_outputs([output], (file for file in args.run.rglob("*") if file.suffix != ".png"))
    write_file(output, draw(read_log(args.run), args.run.name))
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

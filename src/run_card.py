"""What a training run was and what came of it, in a few words: from its `run.json` and its log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.checkpoint import CheckpointError, read_json
from src.training_checkpoint import RUN_RECORD, last_complete

STATE = "trainer_state.json"
SMOOTHING_SHARE = 20  # means are of one in so many points
SHORT_COMMIT = 8  # characters
# Settings of a card, by their place in run.json.
SETTINGS = {
    "stage": ("model", "stage"),
    "effective batch size": ("order", "effective_batch_size"),
    "learning rate": ("training", "learning_rate"),
    "schedule": ("training", "lr_scheduler_type"),
    "warm-up": ("training", "warmup_steps"),
    "weight decay": ("training", "weight_decay"),
    "samples": ("order", "samples"),
    "seed": ("order", "seed"),
    "masking rates": ("objective", "time_sampling"),
    "loss divided by": ("objective", "loss_normalization"),
    "precision": ("precision", "name"),
    "ZeRO": ("deepspeed", "zero"),
}

Log = Sequence[Mapping[str, float]]  # an entry for each time something was logged, with its `step`


def read_log(run: Path) -> Log:
    """What a run logged. Raises CheckpointError where there is no log yet."""
    folders = (run, last_complete(run))
    state = next((folder / STATE for folder in folders if folder and (folder / STATE).exists()), None)
    if state is None:
        raise CheckpointError(f"{run} holds neither {STATE} nor a complete checkpoint: is it a training run's folder?")
    log = read_json(state)["log_history"]
    if not any("loss" in entry for entry in log):
        raise CheckpointError(f"{state} holds no losses yet: wait for the first steps to be logged")
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


def card(run: Path, log: Log) -> dict[str, str]:
    """Settings and results of a run, by name; settings only where there is a `run.json`."""
    record = read_json(run / RUN_RECORD) if (run / RUN_RECORD).exists() else {}
    found = {name: value_at(record, place) for name, place in SETTINGS.items()}
    words = {name: number(value) for name, value in found.items() if value is not None}
    if git := record.get("git"):
        words["commit"] = git["commit"][:SHORT_COMMIT] + (" and changes" if git["changed"] else "")
    return words | results(log)


def value_at(record: Mapping[str, Any], place: Sequence[str]) -> Any:
    for key in place:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def results(log: Log) -> dict[str, str]:
    """What a run came to, by name."""
    steps, losses = series(log, "loss")
    words = {"updates": number(steps[-1]), "training loss, smoothed": f"{smoothed(losses)[-1]:.4f}"}
    for title, name in (("best validation loss", "eval_loss"), ("best word error rate", "eval_wer")):
        at, values = series(log, name)
        if len(values):
            words[title] = f"{values.min():.4f} after {number(at[values.argmin()])}"
    _, speed = series(log, "samples_per_second")
    _, memory = series(log, "memory_gib")
    words |= {"clips a second, median": f"{np.median(speed):.2f}"} if len(speed) else {}
    return words | ({"memory of a process": f"{memory.max():.2f} GiB"} if len(memory) else {})


def number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def as_table(cards: Mapping[str, Mapping[str, str]]) -> str:
    """Cards of runs side by side, as Markdown: a column each."""
    names = dict.fromkeys(name for words in cards.values() for name in words)
    rows = [["", *cards], ["---"] * (len(cards) + 1)]
    rows += [[name, *(words.get(name, "") for words in cards.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def differing(cards: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """What is not the same in all runs, results included: by name, a value a run."""
    names = dict.fromkeys(name for words in cards.values() for name in words)
    values = {name: [words.get(name, "") for words in cards.values()] for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1}

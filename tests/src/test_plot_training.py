import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from src.plot_training import draw, main
from src.run_card import as_table, card, differing, read_log, series, smoothed
from src.training_checkpoint import finish

LOG = [
    {
        "step": step, "loss": 10 / step, "learning_rate": 1e-4, "grad_norm": 2.0, "loss_t0.0-0.2": 1.0, "epoch": 0.1,
        "samples_per_second": 4.0, "audio_seconds_per_second": 12.0,
    }
    for step in range(1, 41)
]  # fmt: skip
EVALUATED = [*LOG[:20], {"step": 20, "eval_loss": 0.7}, *LOG[20:], {"step": 40, "train_runtime": 9.0}]


def write_run(folder: Path, log: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))


def test_series_are_picked_by_name():
    steps, values = series(EVALUATED, "loss")
    assert steps.tolist() == list(range(1, 41)) and values[3] == 2.5
    assert [array.tolist() for array in series(EVALUATED, "eval_loss")] == [[20.0], [0.7]]
    assert [array.tolist() for array in series(EVALUATED, "missing")] == [[], []]


def test_smoothing_looks_back():
    values = np.arange(40.0)
    assert smoothed(values)[:3].tolist() == [0.0, 0.5, 1.5] and smoothed(values)[-1] == 38.5
    assert smoothed(np.array([1.0, 3.0])).tolist() == [1.0, 3.0]


def test_a_run_that_still_goes_is_read_from_its_last_complete_checkpoint(tmp_path):
    write_run(tmp_path / "unfinished" / "checkpoint-20", LOG[:20])
    finish(tmp_path / "unfinished" / "checkpoint-20", tmp_path / "checkpoint-20")
    write_run(tmp_path / "checkpoint-30", LOG[:30])  # half-written
    assert len(read_log(tmp_path)) == 20
    write_run(tmp_path, LOG)
    assert len(read_log(tmp_path)) == 40


def test_curves_are_drawn(tmp_path, capsys):
    write_run(tmp_path, EVALUATED)
    main([str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(tmp_path / "training.png")
    picture = imread(tmp_path / "training.png")
    assert picture.shape[:2] == (840, 1320)
    (tmp_path / "other.png").write_bytes(draw(LOG, tmp_path.name))
    assert not np.array_equal(picture, imread(tmp_path / "other.png"))  # the validation loss is in the first one
    write_run(tmp_path, [*EVALUATED, {"step": 20, "eval_loss": 0.7, "eval_wer": 1.2}])
    main([str(tmp_path)])
    assert not np.array_equal(picture, imread(tmp_path / "training.png"))


@pytest.mark.parametrize(
    ("log", "message"), [(None, "holds neither trainer_state.json nor"), ([], "holds no losses yet")]
)
def test_a_folder_without_a_log_is_named(tmp_path, capsys, log, message):
    if log is not None:
        write_run(tmp_path, log)
    assert main([str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


RECORD = {
    "model": {"stage": 2}, "training": {"learning_rate": 5e-5, "warmup_steps": 9}, "order": {"seed": 1, "samples": 40},
    "precision": {"name": "float32"}, "git": {"commit": "0123456789abcdef", "changed": True},
}  # fmt: skip


def test_a_card_tells_settings_git_and_results(tmp_path):
    write_run(tmp_path, [*EVALUATED, {"step": 30, "eval_loss": 0.6, "eval_wer": 0.25}])
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    found = card(tmp_path, read_log(tmp_path))
    assert found == {
        "stage": "2", "learning rate": "5e-05", "warm-up": "9", "samples": "40", "seed": "1", "precision": "float32",
        "commit": "01234567 and changes", "updates": "40", "training loss, smoothed": "0.2532",
        "best validation loss": "0.6000 after 30", "best word error rate": "0.2500 after 30",
        "clips a second, median": "4.00",
    }  # fmt: skip
    cards = {"a": found, "b": found | {"seed": "2"}}
    assert differing(cards) == {"seed": ["1", "2"]}
    assert as_table(cards).startswith("|  | a | b |\n| --- | --- | --- |\n| stage | 2 | 2 |\n")


def test_several_runs_come_into_one_figure(tmp_path, capsys, monkeypatch):
    """The second still goes on, and neither was evaluated alike."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "x" / "one", EVALUATED)
    write_run(tmp_path / "unfinished" / "checkpoint-20", LOG[:20])
    (tmp_path / "x" / "two").mkdir()
    finish(tmp_path / "unfinished" / "checkpoint-20", tmp_path / "x" / "two" / "checkpoint-20")
    (tmp_path / "x" / "one" / "run.json").write_text(json.dumps(RECORD))
    assert main([str(tmp_path / "x" / "one"), str(tmp_path / "x" / "two")]) == 0
    printed = capsys.readouterr().out
    assert "|  | one | two |" in printed and "| updates | 40 | 20 |" in printed and printed.endswith("\nruns.png\n")
    picture = imread("runs.png")
    assert picture.shape[1] == 1320 and picture.shape[0] > 840
    shutil.copytree(tmp_path / "x" / "one", tmp_path / "y" / "one")
    assert main([str(tmp_path / "x" / "one"), str(tmp_path / "y" / "one"), "--output", "same.png"]) == 0
    assert not np.array_equal(picture.shape, imread("same.png").shape)  # less differs

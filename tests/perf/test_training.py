import json

import pytest

from perf import training
from perf.training import StepRow, targets


def test_time_is_compared_one_way_and_memory_the_other():
    rows = {"naive": StepRow(9.0, 2000.0, 1.0, 0.5, 2.0), "ours": StepRow(3.0, 500.0, 1.0, 0.5, 2.0)}
    rows |= {"whole_naive": StepRow(20.0, 3000.0, 1.0, 0.5, 2.0), "whole_ours": StepRow(10.0, 600.0, 1.0, 0.5, 2.0)}
    assert targets(rows["whole_naive"], rows["whole_ours"]) == {
        "step": {"seconds": 10.0, "ratio_to_naive": 2.0},
        "memory": {"mebibytes": 600.0, "ratio_to_naive": 0.2},
    }


@pytest.mark.slow
def test_the_table_of_training(tmp_path, capsys, small_encoder):
    shape = "--d_model 64 --n_layers 1 --vocabulary 20000 --whisper tiny --batch_size 1 --audio_seconds 2"
    flags = f"{shape} --runs 1 --dtype float32 --device cpu --json {tmp_path / 't.json'}"
    training.main(flags.split())
    rows = json.loads((tmp_path / "t.json").read_text())
    assert rows["run"]["runs"] == 1 and rows["run"]["limit_gigaflops_per_second"] > 1
    assert rows["step"]["ratio_to_naive"] == pytest.approx(
        rows["whole_naive"]["seconds"] / rows["whole_ours"]["seconds"]
    )
    assert rows["memory"]["mebibytes"] == rows["whole_ours"]["peak_mebibytes"]
    losses = [row["loss"] for row in rows.values() if "loss" in row]
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-4) and losses[0] > 1
    work = {name: rows[name]["gigaflops"] for name in rows if "gigaflops" in rows[name]}
    assert work["whole_naive"] > work["whole_ours"] > work["ours"] > 0
    assert work["ours_checkpointed"] > work["ours"]  # layers are computed again
    encoder, published_encoder = (work[f"whole_{name}"] - work[name] for name in ("ours", "naive"))
    assert 0.7 * published_encoder < encoder < published_encoder  # its last layer goes as far as the clip
    assert "ours_checkpointed" in capsys.readouterr().out

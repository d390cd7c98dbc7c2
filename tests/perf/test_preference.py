import json

import pytest

from perf import preference


def test_the_table_of_preference_optimisation(tmp_path, capsys, small_encoder):
    """All rows take the same loss, ours by less work and memory."""
    shape = "--d_model 64 --n_layers 2 --vocabulary 20000 --whisper tiny --audio_seconds 1 --vrpo_draws 2"
    flags = f"{shape} --runs 1 --dtype float32 --device cpu --json {tmp_path / 'p.json'}"
    preference.main(flags.split())
    rows = json.loads((tmp_path / "p.json").read_text())
    names = ["naive", "ours", "ours_checkpointed"]
    assert [rows[name]["loss"] for name in names] == pytest.approx([rows["naive"]["loss"]] * 3, rel=1e-4)
    assert rows["naive"]["gigaflops"] > rows["ours_checkpointed"]["gigaflops"] > rows["ours"]["gigaflops"]
    assert rows["step"]["ratio_to_naive"] == pytest.approx(rows["naive"]["seconds"] / rows["ours"]["seconds"])
    assert rows["memory"]["mebibytes"] == rows["ours"]["peak_mebibytes"]
    assert rows["memory"]["ratio_to_naive"] < 1 and "ours_checkpointed" in capsys.readouterr().out

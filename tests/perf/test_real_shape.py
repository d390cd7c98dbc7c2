import argparse
import json

import pytest
import torch

from perf import real_shape

SMALL = argparse.Namespace(d_model=128, n_layers=2, vocabulary=800)
CPU = torch.device("cpu")


def test_the_table_of_passes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(real_shape, "POSITIONS", 40)
    monkeypatch.setattr(real_shape, "BLOCK", 8)
    monkeypatch.setattr(real_shape, "TRAINED_POSITIONS", 30)
    flags = "--d_model 128 --vocabulary 800 --runs 1 --dtype float32 --device cpu"
    real_shape.main([*flags.split(), "--json", str(tmp_path / "r.json")])
    rows = json.loads((tmp_path / "r.json").read_text())
    assert rows.pop("run")["runs"] == 1
    ends = ("", "_int8", "_int4")
    assert list(rows) == [*(name + end for name in ("whole", "cached", "vocabulary") for end in ends), "step"]
    # two layers of 7 products an element of d x d in 4 or 3 d x d, 2 operations each; attention besides
    layer = 2 * (4 * 128 * 128 + 3 * 128 * 384)
    logits = 2 * 8 * 800 * 128 / 1e9
    assert rows["vocabulary"]["gigaflops"] == rows["vocabulary_int4"]["gigaflops"] == pytest.approx(logits)
    attention = 2 * 2 * 2 * 8 * 40 * 128
    assert rows["cached"]["gigaflops"] == pytest.approx((2 * 8 * layer + attention) / 1e9 + logits)
    assert rows["step"]["gigaflops"] > rows["whole"]["gigaflops"] > rows["cached"]["gigaflops"]
    assert rows["cached"]["ratio_to_float"] == 1
    ratio = rows["cached"]["seconds"] / rows["cached_int8"]["seconds"]
    assert rows["cached_int8"]["ratio_to_float"] == pytest.approx(ratio)
    sizes = [rows[f"whole{end}"]["weight_gigabytes"] for end in ends]
    assert sizes[0] > 3.8 * sizes[1] > 3.8 * sizes[2] > 0
    assert "vocabulary_int4" in capsys.readouterr().out


def test_a_cached_pass_gives_the_logits_of_the_whole_one():
    llm = real_shape.random_llm(SMALL, CPU, torch.float32)
    cases = real_shape.cases_of(llm)
    torch.testing.assert_close(cases["cached"](), cases["whole"](), rtol=1e-4, atol=1e-4)
    assert llm.config.head_dim == real_shape.HEAD_DIM


def test_rounded_weights_are_those_of_the_same_llm():
    llm = real_shape.random_llm(SMALL, CPU, torch.float32)
    for to, most in (("int8", 0.02), ("int4", 0.2)):
        twin = real_shape.rounded(llm, to)
        assert twin.quantization == to
        expected = real_shape.cases_of(llm)["whole"]()
        assert (real_shape.cases_of(twin)["whole"]() - expected).norm() / expected.norm() < most

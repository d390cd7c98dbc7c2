import json

import pytest
import torch

from perf import decoding, measure
from src.modeling_llada import LLaDAModel

CPU = torch.device("cpu")


def test_operations_of_products_and_attention_are_counted():
    x, q = torch.ones(3, 5), torch.ones(2, 4, 7, 16)
    assert measure.flops_of(lambda: x @ x.T) == 2 * 3 * 5 * 3
    attention = measure.flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attention == 2 * (2 * 2 * 4 * 7 * 7 * 16)


def test_peak_memory_is_what_a_call_takes_for_itself():
    taken = measure.peak_bytes(lambda: torch.ones(8, measure.MEBIBYTE).sum(), CPU) / measure.MEBIBYTE
    assert 30 < taken < 40  # float32


def test_runs_take_turns_and_the_median_counts(monkeypatch):
    order, clock = [], iter([1.0, 5.0, 2.0, 7.0, 9.0, 6.0])
    monkeypatch.setattr(measure, "seconds_of", lambda call, device: (call(), next(clock))[1])
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert measure.interleaved_medians(calls, CPU, runs=3) == {"a": 2.0, "b": 6.0}
    assert order == list("ababab")


def test_what_is_measured_by_default():
    args = decoding.parse([])
    assert (args.max_new_tokens, args.steps, args.block_length, args.runs) == (32, 32, 16, 5)
    assert (args.d_model, args.n_layers, args.vocabulary, args.whisper) == (512, 8, 126464, "small")
    assert args.dtype == "auto" and args.audio_seconds == 10


@pytest.mark.slow
def test_the_table_of_decoding(tmp_path, capsys, monkeypatch, small_encoder):
    compiled = []
    monkeypatch.setattr(LLaDAModel, "compile_blocks", lambda llm: compiled.append(llm))
    flags = "--d_model 64 --n_layers 1 --vocabulary 800 --whisper tiny --runs 1 --dtype float32 --device cpu"
    answer = "--max_new_tokens 16 --steps 16 --block_length 8 --tokens_per_pass 2 --compile"
    decoding.main([*flags.split(), *answer.split(), "--json", str(tmp_path / "d.json")])
    rows = json.loads((tmp_path / "d.json").read_text())
    run = rows.pop("run")
    assert run["runs"] == 1 and run["limit_gigaflops_per_second"] > 1 and "torch" in run
    assert {name: row["forward_passes"] for name, row in rows.items()} == {
        "naive": 16, "exact": 16, "prefix": 16, "dual": 16, "dual_parallel": 8, "exact_compiled": 16,
        "dual_compiled": 16, "naive_multiple_choice": 4, "multiple_choice": 4,
    }  # fmt: skip
    assert all(rows[name]["same_tokens"] for name in ("exact", "exact_compiled", "multiple_choice"))
    assert len(compiled) == 1 and run["seconds_of_first_dual_compiled"] > 0
    work = {name: row["gigaflops"] for name, row in rows.items()}
    assert work["naive"] > work["exact"] > work["prefix"] > work["dual"] > work["dual_parallel"] > 0
    assert rows["naive"]["ratio_to_naive"] == 1
    for name, column in (("exact", "seconds_with_encoder"), ("prefix", "seconds"), ("dual_parallel", "seconds")):
        ratio = rows["naive"][column] / rows[name][column]
        assert rows[name]["ratio_to_naive"] == pytest.approx(ratio), name
    choice, plain = rows["multiple_choice"], rows["naive_multiple_choice"]
    assert choice["ratio_to_naive"] == pytest.approx(plain["seconds_with_encoder"] / choice["seconds_with_encoder"])
    for name, row in rows.items():
        encoder = run["seconds_of_naive_encoder" if "naive" in name else "seconds_of_encoder"]
        assert row["seconds_with_encoder"] == pytest.approx(row["seconds"] + encoder)
    assert "multiple_choice" in capsys.readouterr().out

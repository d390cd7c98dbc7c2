import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src import llm_generate, precision, training_meter
from src.generation_options import GenerationOptions
from src.inference_flags import make_parser
from src.precision import CPUINFO, MIN_SPEEDUP, choose_precision, default_dtype, first_processor, measured_speedup

CPU = torch.device("cpu")
KINDS = Path(__file__).parent / "cpuinfo"  # as Linux on such machines has it, cut down to two processors


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    for name in ("WORLD_SIZE", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def speedup(monkeypatch):
    """Stands in for the measurement."""
    result = SimpleNamespace(value=None, measured=0)

    def measure(device):
        assert result.value is not None, "measured without need"
        result.measured += 1
        return result.value

    monkeypatch.setattr(precision, "measured_speedup", measure)
    return result


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("xeon_amx", "bfloat16", "multiplies it in hardware (amx_bf16)"),
        ("xeon_avx512", "float32", "no instructions that multiply bfloat16"),
        ("laptop_avx2", "float32", "no instructions that multiply bfloat16"),
        ("arm_bf16", "bfloat16", "multiplies it in hardware (bf16)"),
        ("amd_zen4", "bfloat16", "multiplies it in hardware (avx512_bf16)"),
    ],
)
def test_a_cpus_flags_tell(kind, name, reason, speedup):
    cpuinfo = KINDS / f"{kind}.txt"
    chosen = choose_precision(CPU, cpuinfo=cpuinfo)
    assert chosen.name == name and reason in chosen.reason
    assert chosen.dtype == getattr(torch, name) and str(chosen).startswith(f"computing in {name}: ")
    for forced in ("float32", "bfloat16", "float16"):
        assert choose_precision(CPU, forced, cpuinfo) == precision.Precision(forced, "as asked for")


@pytest.mark.parametrize("kind", ["xeon_avx512_bf16.txt", "no such file"])
def test_a_measurement_tells_where_flags_do_not(kind, speedup, monkeypatch):
    for speedup.value, name in ((0.6, "float32"), (MIN_SPEEDUP, "bfloat16"), (0.0, "float32")):
        chosen = choose_precision(CPU, cpuinfo=KINDS / kind)
        assert chosen.name == name and f"{speedup.value:.1f} times as fast as in float32" in chosen.reason
    monkeypatch.setenv("WORLD_SIZE", "2")  # which might come to different results
    speedup.value = None
    chosen = choose_precision(CPU, cpuinfo=KINDS / kind)
    assert chosen.name == "float32" and "one of several processes does not measure" in chosen.reason


def test_instructions_that_are_switched_off_do_not_count(speedup, monkeypatch):
    speedup.value = 0.2
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    chosen = choose_precision(CPU, cpuinfo=KINDS / "xeon_amx.txt")
    assert chosen.name == "float32" and "ONEDNN_MAX_CPU_ISA limits the instructions" in chosen.reason
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert "without oneDNN" in choose_precision(CPU, cpuinfo=KINDS / "amd_zen4.txt").reason
    assert speedup.measured == 2


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo here")
def test_the_machine_at_hand(monkeypatch):
    """By what lscpu says; where that leaves it open, by products."""
    listed = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
    flags = listed.partition("Flags:")[2].partition("\n")[0].split()
    assert set(flags) == set((first_processor(CPUINFO).get("flags") or first_processor(CPUINFO)["Features"]).split())
    chosen = choose_precision(CPU)
    if {"amx_bf16", "bf16"} & set(flags) or ("avx512_bf16" in flags and "AuthenticAMD" in listed):
        assert chosen.name == "bfloat16" and "hardware" in chosen.reason
    elif any(flag.startswith(("avx512_bf16", "avx10")) for flag in flags):
        assert "times as fast" in chosen.reason
    else:
        assert chosen.name == "float32"


def test_a_product_is_measured_in_both_formats():
    assert 0.001 < measured_speedup(CPU) < 1000


@pytest.mark.parametrize(("native", "name"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_without_emulation(native, name, monkeypatch):
    monkeypatch.setattr("torch.cuda.device", lambda device: torch.no_grad())
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")

    def supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    chosen = choose_precision(torch.device("cuda", 0))
    assert chosen.name == name and "Tesla T4" in chosen.reason
    assert ("does not multiply bfloat16 in hardware (NVIDIA's GPUs do from Ampere on)" in chosen.reason) != native


def test_other_devices_are_measured(speedup):
    speedup.value = 1.1
    assert "mps devices differ" in choose_precision(torch.device("mps")).reason


def test_auto_is_what_scripts_ask_for():
    assert make_parser("").parse_args(["--model_path", "x"]).dtype == "auto"


class NoFloat64(TorchDispatchMode):
    """As Apple's GPUs: makes nothing in float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        wide = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64]
        assert not wide, function
        return result


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"remasking": "random"}, {"threshold": 0.9}])
def test_where_there_is_no_float64_none_is_made(settings, model, clips, monkeypatch):
    assert {"mps": torch.float32} == precision.WITHOUT_FLOAT64
    options = GenerationOptions(steps=4, block_length=4, max_new_tokens=8, seed=0, **settings)
    inputs = model.build_inputs(clips[:2], ["What is it?"] * 2, options)
    expected = llm_generate.generate(model.llm_model, inputs, options)
    assert expected.confidence.dtype == torch.float64
    monkeypatch.setitem(precision.WITHOUT_FLOAT64, "cpu", torch.float32)
    with NoFloat64():
        answered = llm_generate.generate(model.llm_model, inputs, options)
    assert answered.confidence.dtype == torch.float32
    if not (settings.keys() & {"temperature", "remasking"}):  # which draw other random numbers
        assert answered.answer_ids.equal(expected.answer_ids)

    batch = {"t": torch.tensor([0.5]), "labels": torch.ones(1, 3), "feature_attention_mask": torch.ones(1, 9)}
    with NoFloat64():
        meter = training_meter.TrainingMeter(CPU, 160)
        meter.add(batch, torch.ones(1))
        assert meter.read(lambda sums: sums)["loss_t0.4-0.6"] == pytest.approx(1 / 3, abs=1e-4)


def test_a_default_number_format_ends_with_its_context():
    with pytest.raises(ZeroDivisionError), default_dtype(torch.bfloat16):
        assert torch.nn.Linear(2, 2).weight.dtype == torch.bfloat16
        _ = 1 / 0
    assert torch.get_default_dtype() == torch.float32

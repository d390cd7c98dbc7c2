"""What the measurements share: interleaved times, peak memory, counted operations, and the machine's limit."""

import ctypes
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from src.files import write_file

ROOT = Path(__file__).resolve().parents[1]
MATRIX_SIZE = 2048  # of the square matrices whose product measures the limit
MEBIBYTE = 1 << 20


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved_medians(calls: Mapping[str, Callable[[], object]], device: torch.device, runs: int) -> dict[str, float]:
    """Median seconds of each call. They take turns, so that a machine that slows down slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Memory that a call takes at its worst, above what was taken before it.

    On a CPU this is the process's resident memory, as Linux counts it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator still holds would hide what the call takes
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident_bytes("VmRSS")
    call()
    return resident_bytes("VmHWM") - before


def resident_bytes(field: str) -> int:
    """VmRSS (resident memory) or VmHWM (its peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of a call in matrix products, convolutions and attention, two a multiplication."""

    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_, **__) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}  # PyTorch does not count it
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        call()
    return counter.get_total_flops()


@torch.inference_mode()
def matrix_product_limit(device: torch.device, dtype: torch.dtype, runs: int = 30, size: int = MATRIX_SIZE) -> float:
    """Operations a second in the best of many large matrix products, so that a moment's disturbance does not count."""
    x = torch.randn(size, size, device=device).to(dtype)
    best = min(seconds_of(lambda: x @ x, device) for _ in range(runs))
    return 2 * size**3 / best


def report(table: str, rows: Mapping[str, object], run: Mapping[str, object], path: Path | None) -> None:
    """Print a table and what its run was; write `rows` and `run` as JSON where a path is given."""
    print(table)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in run.items()))
    if path:
        write_file(path, json.dumps({**rows, "run": run}, indent=1) + "\n")


def run_record(device: torch.device, precision: object, runs: int, limit: float) -> dict[str, str | int | float]:
    """What is told of a run of `runs` turns whose products reach `limit` operations a second."""
    about = {"precision": str(precision), "runs": runs, "limit_gigaflops_per_second": limit / 1e9}
    return machine(device) | about


def machine(device: torch.device) -> dict[str, str | int]:
    """Where, with what and on which commit figures were taken."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else platform.machine()
    git = [shutil.which("git") or "true", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return {
        "hardware": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown",
        "command": " ".join(["python", *sys.argv]),
    }

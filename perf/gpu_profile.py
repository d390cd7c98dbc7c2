"""What one call does to a GPU: kernels, launches, waits, and the gaps in between, off torch.profiler's trace."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace's events
WAITING_OPERATORS = ("aten::_local_scalar_dense", "aten::nonzero")  # .item(), .tolist(); a tensor of unknown length
LONGEST_KERNELS = 5


def profile_of(call: Callable[[], object], device: torch.device) -> dict[str, Any]:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    with profile(activities=activities) as profiler:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return figures_of(json.loads(path.read_text())["traceEvents"])


def figures_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and milliseconds on the device: busy, idle in between, the longest gap, the kernels that take most."""
    events = [event for event in events if event.get("ph") == "X"]
    calls = Counter(event["name"] for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver"))
    operators = Counter(event["name"] for event in events if event.get("cat") == "cpu_op")
    on_device = sorted((event for event in events if event.get("cat") in ON_DEVICE), key=lambda event: event["ts"])
    figures = {
        "operators": sum(operators.values()),
        "operators_that_wait": {name: operators[name] for name in WAITING_OPERATORS},
        "kernels": sum(event["cat"] == "kernel" for event in on_device),
        "launches": sum(count for name, count in calls.items() if "LaunchKernel" in name),
        "waits": calls["cudaStreamSynchronize"] + calls["cudaEventSynchronize"],
        "copies_to_host": sum("DtoH" in event["name"] for event in on_device),
    }
    if not on_device:
        return figures
    busy, gaps, end = 0.0, [0.0], on_device[0]["ts"]
    for event in on_device:
        start, stop = event["ts"], event["ts"] + event["dur"]
        gaps.append(max(0.0, start - end))
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    sums: Counter[str] = Counter()
    for event in on_device:
        sums[event["name"][:60]] += event["dur"]
    return figures | {
        "busy_milliseconds": busy / 1e3,
        "gap_milliseconds": sum(gaps) / 1e3,
        "longest_gap_milliseconds": max(gaps) / 1e3,
        "idle_share": sum(gaps) / (busy + sum(gaps)),
        "longest_kernels_milliseconds": {name: value / 1e3 for name, value in sums.most_common(LONGEST_KERNELS)},
    }

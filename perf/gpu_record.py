"""What one part of perf/gpu.py measures: rows of figures by name, on disk after each, whatever happens to the next."""

import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from src.files import write_file

LINES_OF_A_FAILURE = 6  # of its traceback, the last


@dataclass
class Record:
    """The rows of a part, and what it measures on.

    A row whose measuring raises holds the error as `failed`, one that the part has no time left for says so as
    `skipped`; a row that checks something holds `ok`.
    """

    path: Path  # a JSON file
    device: torch.device
    dry_run: bool  # tiny shapes
    seconds: float  # that the part may take
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    def row(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure a row; returns its figures, or what stands in for them."""
        before = time.monotonic()
        if before - self.start > self.seconds:
            figures = {"skipped": f"the part's {self.seconds:.0f} s were over"}
        else:
            try:
                figures = measure()
            except Exception:
                figures = {"failed": last_lines(traceback.format_exc())}
                gc.collect()  # after memory ran out, the next row needs what this one held
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        figures["took"] = round(time.monotonic() - before, 2)
        self.rows[name] = figures
        write_file(self.path, json.dumps(self.rows, indent=1) + "\n")
        print(f"  {name}: {brief(figures)}", flush=True)
        return figures


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LINES_OF_A_FAILURE:])


def brief(figures: dict[str, Any]) -> str:
    """A row on one line."""
    if "failed" in figures:
        return f"FAILED: {figures['failed'].splitlines()[-1]}"
    return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in figures.items())  # fmt: skip

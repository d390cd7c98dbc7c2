"""A new machine with a GPU: is it set up right, how fast is it, what fits. `bash perf/gpu.sh` starts it.

    bash perf/gpu.sh --out gpu_out --parts golden,decoding
    python perf/gpu.py --write_docs gpu_out/gpu.json docs/gpu.md

Five parts, each in a process of its own with an allotted time, so that what one does or breaks does not touch the next:

    golden    the published code's numbers and tokens, on this device
    training  all stages on the miniature under DeepSpeed, loss against the CPU's; killed and resumed
    decoding  LLaDA-8B's shape: seconds a step and an answer in every mode, for batches, compiled, in CUDA graphs
    steps     LLaDA-8B's shape: training updates at the published batch; time and memory
    feeding   clips a second that the CPU prepares, against what the GPU takes

Figures are in OUT/gpu.json after each part, beside those of parts that another call measured there. The exit status is
1 if a check or a part failed.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import torch

from perf import gpu_report, measure
from perf.gpu_record import Record, last_lines
from src.errors import UserError, reports_user_errors
from src.files import check_outputs, write_file
from src.precision import choose_precision
from src.provenance import versions

SAME = ("hardware", "commit", "torch", "dry_run")  # of calls whose parts go into one record
GRACE_SECONDS = 45  # beyond its own, for a part's start and for the row under way


@dataclass(frozen=True)
class Part:
    module: str
    seconds: float  # that it may take on an H100; rows that would begin later are left out
    seconds_dry: float


PARTS = {
    "golden": Part("gpu_golden", 60, 400),
    "training": Part("gpu_runs", 120, 400),
    "decoding": Part("gpu_decoding", 170, 400),
    "steps": Part("gpu_steps", 100, 400),
    "feeding": Part("gpu_feeding", 50, 400),
}
# These check; the others measure time, and need the machine for themselves. (A dry run's times say nothing.)
SIDE_BY_SIDE = ("golden", "training")


def start(name: str, args: argparse.Namespace) -> subprocess.Popen:
    print(f"== {name}", flush=True)
    command = [sys.executable, __file__, "--part", name, "--out", str(args.out), "--device", args.device]
    env = os.environ | ({"OMP_NUM_THREADS": "1"} if args.dry_run else {})  # all parts at once: a thread each
    with (args.out / f"{name}.log").open("w") as errors:
        return subprocess.Popen(
            command + ["--dry-run"] * args.dry_run, stderr=errors, start_new_session=True, cwd=os.getcwd(), env=env
        )


def finish(name: str, process: subprocess.Popen, begun: float, args: argparse.Namespace) -> dict[str, Any]:
    """Wait for a part, no longer than it may take; what it measured."""
    part, failure = PARTS[name], ""
    seconds = (part.seconds_dry if args.dry_run else part.seconds) + GRACE_SECONDS
    try:
        process.wait(max(0.1, begun + seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        failure = f"took longer than {seconds:.0f} s and was stopped"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode and not failure:
        failure = f"ended with status {process.returncode}: {last_lines((args.out / f'{name}.log').read_text())}"
    rows = args.out / f"{name}.json"
    content = {
        "seconds": round(time.monotonic() - begun, 1),
        "rows": json.loads(rows.read_text()) if rows.exists() else {},
    }
    if failure:
        print(f"{name} {failure}", flush=True)
        content["failed"] = failure
    return content


def measure_part(name: str, args: argparse.Namespace) -> None:
    part = PARTS[name]
    record = Record(
        args.out / f"{name}.json", torch.device(args.device), args.dry_run,
        part.seconds_dry if args.dry_run else part.seconds,
    )  # fmt: skip
    importlib.import_module(f"perf.{part.module}").measure_all(record)


def measure_parts(names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    run = describe(args)
    result: dict[str, Any] = {"run": run, "parts": kept_parts(args.out / "gpu.json", run, names)}
    together = [name for name in names if name in SIDE_BY_SIDE or args.dry_run]
    for group in filter(None, [together, *([name] for name in names if name not in together)]):
        for name in group:
            (args.out / f"{name}.json").unlink(missing_ok=True)
        begun = time.monotonic()
        processes = {name: start(name, args) for name in group}
        with ThreadPoolExecutor() as pool:
            waiting = {name: pool.submit(finish, name, process, begun, args) for name, process in processes.items()}
        result["parts"] |= {name: future.result() for name, future in waiting.items()}
        write_file(args.out / "gpu.json", json.dumps(result, indent=1) + "\n")
    return result


def kept_parts(path: Path, run: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What an earlier call measured of other parts, on the same machine and commit.

    Raises UserError where it was another one's: writing would lose its figures.
    """
    if not path.exists():
        return {}
    before = read_result(path)
    kept = {name: content for name, content in before["parts"].items() if name not in names}
    differing = [name for name in SAME if before["run"].get(name) != run.get(name)]
    if kept and differing:
        name = differing[0]
        raise UserError(
            f"{path} holds {', '.join(kept)}, measured with {name} {before['run'].get(name)}, not {run.get(name)}: "
            "choose another folder for --out, or move that file away"
        )
    return kept


def describe(args: argparse.Namespace) -> dict[str, Any]:
    run = measure.machine(torch.device(args.device)) | versions()
    run |= {"cpus": os.cpu_count(), "precision": str(choose_precision(torch.device(args.device)))}
    if args.device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        run |= {
            "gpus": torch.cuda.device_count(), "gigabytes": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count, "compute_capability":
            f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda,
        }  # fmt: skip
    return run | ({"dry_run": True} if args.dry_run else {})


def failures(result: dict[str, Any]) -> list[str]:
    """Parts and rows that failed, checks that did not hold."""
    found = [f"{part}: {content['failed']}" for part, content in result["parts"].items() if "failed" in content]
    for part, content in result["parts"].items():
        for name, row in content["rows"].items():
            if "failed" in row:
                found.append(f"{part}, {name}: {row['failed']}")
            elif row.get("ok") is False:
                found.append(f"{part}, {name}: the check does not hold: {row}")
    return found


def read_result(path: Path) -> dict[str, Any]:
    """What an earlier run measured. Raises UserError if it is not there, or something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not {"run", "parts"} <= result.keys():
            raise ValueError("it has no run or no parts")
        for name, content in result["parts"].items():
            if not isinstance(content.get("rows"), dict):
                raise ValueError(f"its part {name} has no rows")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; bash perf/gpu.sh writes gpu.json to the folder of its --out") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is not what bash perf/gpu.sh writes to gpu.json: {error}") from None
    return result


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), help="folder for figures (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by commas (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU: whether all of it runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write_docs", nargs=2, type=Path, metavar=("JSON", "MARKDOWN"), help="measure nothing")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # in the process of a part
    args = parser.parse_args(argv)
    unknown = set(args.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if args.dry_run:
        args.device = "cpu"
    elif args.device == "cpu" and not args.write_docs:
        parser.error("PyTorch finds no GPU here; --dry-run tries everything tiny on the CPU")
    args.out = args.out.absolute()
    return args


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.write_docs:
        source, target = args.write_docs
        check_outputs([target], [source])
        write_file(target, gpu_report.document_of(read_result(source)))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part:
        measure_part(args.part, args)
        return 0
    result = measure_parts(args.parts.split(","), args)
    print("\n" + gpu_report.text_of(result))
    problems = failures(result)
    for problem in problems:
        print(f"\nFAILED {problem}")
    seconds = {name: content["seconds"] for name, content in result["parts"].items()}
    print(f"\nseconds: {seconds}; figures: {args.out / 'gpu.json'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

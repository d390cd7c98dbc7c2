import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from perf import gpu, gpu_profile, gpu_report, gpu_runs
from perf.gpu_record import Record
from src.configuration_DIFFA import ROOT
from src.errors import UserError

CPU = torch.device("cpu")


def record_in(folder, seconds=60.0):
    return Record(folder / "part.json", CPU, dry_run=True, seconds=seconds)


def test_a_row_that_fails_is_told_and_the_next_is_measured(tmp_path):
    record = record_in(tmp_path)
    record.row("broken", lambda: {"a": 1 / 0})
    record.row("whole", lambda: {"a": 2.5})
    rows = json.loads((tmp_path / "part.json").read_text())
    assert rows["broken"]["failed"].endswith("ZeroDivisionError: division by zero") and rows["whole"]["a"] == 2.5


def test_rows_are_left_out_when_the_time_is_over(tmp_path):
    record = record_in(tmp_path, seconds=0.0)
    time.sleep(0.01)
    assert record.row("late", lambda: pytest.fail("it was measured"))["skipped"] == "the part's 0 s were over"


def test_parts_of_an_earlier_call_are_kept_unless_they_are_another_machines(tmp_path):
    path, run = tmp_path / "gpu.json", {"hardware": "H100", "commit": "a", "torch": "2"}
    assert gpu.kept_parts(path, run, ["golden"]) == {}
    golden, steps = {"rows": {"x": {}}}, {"rows": {}}
    path.write_text(json.dumps({"run": run, "parts": {"golden": golden, "steps": steps}}))
    assert gpu.kept_parts(path, run, ["golden"]) == {"steps": steps}
    assert gpu.kept_parts(path, run | {"commit": "b"}, ["golden", "steps"]) == {}  # all of it is measured anew
    with pytest.raises(UserError, match=r"holds steps, measured with commit a, not b: choose another folder for --out"):
        gpu.kept_parts(path, run | {"commit": "b"}, ["golden"])
    path.write_text(json.dumps({"run": run, "parts": {"golden": {}}}))
    with pytest.raises(UserError, match="its part golden has no rows"):
        gpu.kept_parts(path, run, [])


def test_the_record_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "gpu.json"
    path.write_text('{"run": {}, "parts": {}}')
    assert gpu.main(["--write_docs", str(path), str(path)]) == 2
    assert path.read_text() == '{"run": {}, "parts": {}}'


def test_a_trace_is_counted():
    def event(name, category, start=0, duration=0):
        return {"ph": "X", "name": name, "cat": category, "ts": start, "dur": duration}

    figures = gpu_profile.figures_of([
        event("aten::mm", "cpu_op"), event("aten::nonzero", "cpu_op"), event("cudaLaunchKernel", "cuda_runtime"),
        event("cuLaunchKernelEx", "cuda_driver"), event("cudaStreamSynchronize", "cuda_runtime"),
        event("gemm", "kernel", 1000, 500), event("gemm", "kernel", 1200, 500), event("norm", "kernel", 2000, 300),
        event("Memcpy DtoH (Device -> Pinned)", "gpu_memcpy", 2400, 100), {"ph": "M", "name": "process_name"},
    ])  # fmt: skip
    assert (figures["kernels"], figures["launches"], figures["waits"], figures["copies_to_host"]) == (3, 2, 1, 1)
    assert figures["operators_that_wait"] == {"aten::_local_scalar_dense": 0, "aten::nonzero": 1}
    assert figures["busy_milliseconds"] == pytest.approx(1.1)  # 1000 to 1700, 2000 to 2300, 2400 to 2500
    assert figures["gap_milliseconds"] == pytest.approx(0.4) and figures["longest_gap_milliseconds"] == 0.3
    assert figures["idle_share"] == pytest.approx(0.4 / 1.5)
    assert figures["longest_kernels_milliseconds"]["gemm"] == 1.0


def test_losses_must_agree_within_two_percent():
    reference = gpu_runs.Course(dict.fromkeys(range(1, 7), 2.0), 1.0)
    assert gpu_runs.compared(gpu_runs.Course(dict.fromkeys(range(1, 7), 2.03), 1.0), reference)["ok"]
    assert not gpu_runs.compared(gpu_runs.Course(dict.fromkeys(range(1, 7), 2.05), 1.0), reference)["ok"]
    with pytest.raises(RuntimeError, match="5 and 6 losses were logged; expected 6 each"):
        gpu_runs.compared(gpu_runs.Course(dict.fromkeys(range(1, 6), 2.0), 1.0), reference)


def test_a_part_that_hangs_or_dies_keeps_its_rows_and_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE_SECONDS", 0.0)
    monkeypatch.setitem(gpu.PARTS, "golden", gpu.Part("gpu_golden", 0.3, 0.3))
    (tmp_path / "golden.json").write_text('{"first": {"seconds": 1.0}}')
    args = SimpleNamespace(out=tmp_path, dry_run=True)

    def outcome(code):
        with (tmp_path / "golden.log").open("w") as log:
            process = subprocess.Popen([sys.executable, "-c", code], stderr=log, start_new_session=True)
        return gpu.finish("golden", process, time.monotonic(), args)

    hung = outcome("import time; time.sleep(60)")
    assert hung["failed"] == "took longer than 0 s and was stopped" and hung["rows"] == {"first": {"seconds": 1.0}}
    monkeypatch.setattr(gpu, "GRACE_SECONDS", 60.0)
    died = outcome("raise MemoryError('all of it')")
    assert died["failed"].startswith("ended with status 1") and died["failed"].endswith("MemoryError: all of it")
    rows = {"b": {"ok": False, "error": 0.5}, "c": {"failed": "x"}, "d": {"ok": True}}
    found = gpu.failures({"parts": {"golden": hung, "training": {"rows": rows}}})
    assert len(found) == 3 and "b: the check does not hold" in found[1] and found[2] == "training, c: x"


def test_without_a_gpu_only_a_dry_run_is_possible(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for flags, message in ([], "PyTorch finds no GPU"), (["--parts", "golden,x"], "there is no x; choose from golden"):
        with pytest.raises(SystemExit):
            gpu.main(flags)
        assert message in capsys.readouterr().err


def test_a_document_is_written_of_figures_alone(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"rows": []}')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "half.json").write_text('{"run": ')
    for name, message in (
        ("none.json", "is missing; bash perf/gpu.sh writes gpu.json to the folder of its --out"),
        ("other.json", "is not what bash perf/gpu.sh writes to gpu.json: it has no run or no parts"),
        ("list.json", "is not what bash perf/gpu.sh writes"),
        ("half.json", "is not what bash perf/gpu.sh writes"),
    ):
        assert gpu.main(["--write_docs", str(tmp_path / name), str(tmp_path / "gpu.md")]) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / name} {message}" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "gpu.md").exists()


@pytest.mark.slow
def test_a_dry_run_measures_everything(tmp_path):
    """`bash perf/gpu.sh --dry-run`, and the document from its figures."""
    done = subprocess.run(
        ["bash", str(ROOT / "perf" / "gpu.sh"), "--dry-run", "--out", str(tmp_path / "out")],
        env=os.environ | {"SKIP_SETUP": "1"}, cwd="/", capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    rows = {part: content["rows"] for part, content in result["parts"].items()}
    assert {part: len(found) for part, found in rows.items()} == {
        "golden": 8, "training": 1, "decoding": 35, "steps": 12, "feeding": 7,
    }  # fmt: skip
    assert not [name for found in rows.values() for name, row in found.items() if {"failed", "skipped"} & set(row)]
    assert all(row["ok"] for name, row in rows["golden"].items() if "bfloat16" not in name)
    killed = rows["training"]["stage 4, killed and resumed"]
    assert killed["ok"] and killed["resumed_from"].startswith("checkpoint-") and killed["difference"] < 1e-3
    assert rows["decoding"]["profile: exact"]["operators_that_wait"]["aten::nonzero"] == 1
    assert rows["decoding"]["answer, batch 1: dual_parallel, 16 tokens"]["passes"] == 4
    stage_4, checkpointed = (rows["steps"][f"DIFFA-2, stage 4, 1 pairs x 1{kind}"] for kind in ("", ", checkpointing"))
    assert stage_4["teraflop"] == checkpointed["teraflop"] > rows["steps"]["DIFFA-2, stage 3, 2 clips x 1"]["teraflop"]
    assert checkpointed["gigabytes_a_clip"] < stage_4["gigabytes_a_clip"]

    assert gpu.main(["--write_docs", str(tmp_path / "out" / "gpu.json"), str(tmp_path / "gpu.md")]) == 0
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"## {title}" in text for title in gpu_report.TITLES.values())
    assert "| answer, batch 1: exact, 16 tokens |" in text and "The CPU makes " in text

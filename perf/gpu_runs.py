"""Part `training` of perf/gpu.py: all recipes on the miniature, on the GPU under DeepSpeed and NCCL as on the CPU.

All runs go side by side. Those on the GPU(s) are started as a user would start them, one process a GPU, ZeRO-1; one of
them is killed after a checkpoint and started again. Without a GPU, DeepSpeed on the CPU with gloo stands in.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from perf.gpu_record import LINES_OF_A_FAILURE, Record
from src.configuration_DIFFA import ADAPTER_MODULES, ROOT, SAMPLE_RATE, STAGES, DIFFAConfig
from src.lora import LORA_RANK, LORA_TARGETS, new_lora
from src.modeling_DIFFA import DIFFAModel
from src.training_checkpoint import last_complete

ASSETS = ROOT / "demo" / "assets"
WORDS = ("one", "two", "three", "red", "blue", "green", "cat", "dog")
CLIPS = 32
CLIPS_AN_UPDATE = 8
STEPS = 6  # updates
TOLERANCE = 0.02  # of the mean loss
OTHER_SETTINGS = (  # of the recipes, which may be exported for a real run
    "LLM_MODEL", "WHISPER_MODEL", "NNODES", "NODE_RANK", "MASTER_ADDR", "LEARNING_RATE", "EPOCHS", "MAX_LENGTH",
    "REPORT_TO", "FAMILY", "GLOBAL_BATCH",
)  # fmt: skip


def measure_all(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="gpu_runs_") as name:
        folder = Path(name)
        write_data(folder)
        gpus = torch.cuda.device_count() if record.device.type == "cuda" else 0
        plan = {"folder": folder, "processes": max(gpus, 1), "limit_seconds": record.seconds}
        kinds, killed_stage = [(stage, bf16) for bf16 in (False, True) for stage in STAGES], 2
        if record.dry_run:  # the last stage alone, which starts from what stage 3 wrote, LoRA factors included
            kinds, killed_stage = [], max(STAGES)
        on_device = [Run(stage=stage, name=f"device-{bf16}", gpus=gpus, bf16=bf16, **plan) for stage, bf16 in kinds]
        killed = Run(stage=killed_stage, name="killed", gpus=gpus, **plan)
        # Each against the CPU in the same number format: rounding alone changes losses by up to 2 % here.
        kinds = {(run.stage, run.bf16) for run in (*on_device, killed)}
        on_cpu = {kind: Run(stage=kind[0], name=f"cpu-{kind[1]}", gpus=0, bf16=kind[1], **plan) for kind in kinds}
        with ThreadPoolExecutor(max_workers=len(on_cpu) + len(on_device) + 1) as pool:
            futures = {run: pool.submit(run.whole) for run in (*on_cpu.values(), *on_device)}
            futures[killed] = pool.submit(killed.killed_and_resumed)
            for run in (*on_device, killed):
                kind = "killed and resumed" if run is killed else "bfloat16" if run.bf16 else "float32"
                reference = futures[on_cpu[run.stage, run.bf16]]
                record.row(
                    f"stage {run.stage}, {kind}",
                    lambda run=run, reference=reference: compared(futures[run].result(), reference.result()),
                )


def write_data(folder: Path) -> None:
    """Clips, manifests, and checkpoints of stages 1 to 3 that have learned nothing."""
    rng = np.random.default_rng(0)
    entries = []
    for index in range(CLIPS):
        time_axis = np.arange(int(rng.uniform(1.0, 3.0) * SAMPLE_RATE)) / SAMPLE_RATE
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 2000) * time_axis) + rng.normal(0, 0.02, len(time_axis))
        path = folder / f"clip{index}.wav"
        soundfile.write(path, tone.astype(np.float32), SAMPLE_RATE, subtype="PCM_16")
        words = " ".join(rng.choice(WORDS, 3))
        entries.append({
            "audio_id": path.stem, "audio_filepath": str(path), "input": "What can you hear from the audio?",
            "target": words, "transcription": words, "dataset": "tones", "duration": len(tone) / SAMPLE_RATE,
        })  # fmt: skip
    pairs = [{**entry, "rejected": other["target"]} for entry, other in zip(entries, entries[::-1], strict=True)]
    (folder / "manifest.json").write_text(json.dumps(entries))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    torch.manual_seed(0)
    model = DIFFAModel.from_frozen(ASSETS / "llada", ASSETS / "whisper", DIFFAConfig())
    model.match_embedding_scale(ADAPTER_MODULES)
    for stage in (1, 2, 3):
        if STAGES[stage].lora:
            model.attach_lora(new_lora(model.llm_model, LORA_RANK, None, LORA_TARGETS))
        model.prepare_training(stage)
        model.save_pretrained(folder / f"stage{stage}")


@dataclass(frozen=True)
class Course:
    """How a run went."""

    losses: dict[int, float]  # by update
    seconds: float
    resumed_from: str = ""  # a checkpoint's name


@dataclass(frozen=True)
class Run:
    """One run of a recipe."""

    folder: Path
    stage: int
    name: str
    gpus: int  # 0: on the CPU
    processes: int
    limit_seconds: float  # after which it is killed
    bf16: bool = False

    @property
    def prefers(self) -> bool:
        return STAGES[self.stage].prefers

    @property
    def output(self) -> Path:
        return self.folder / f"{self.name}-stage{self.stage}"

    def start(self) -> subprocess.Popen:
        inherited = {name: value for name, value in os.environ.items() if name not in OTHER_SETTINGS}
        env = inherited | {
            "LLM_PATH": str(ASSETS / "llada"), "WHISPER_PATH": str(ASSETS / "whisper"),
            f"STAGE{self.stage - 1}_CKPT": str(self.folder / f"stage{self.stage - 1}"),
            "TRAIN_DATASET": str(self.folder / ("pairs.json" if self.prefers else "manifest.json")),
            "OUTPUT_DIR": str(self.output), "NPROC": str(self.processes), "MAX_SECONDS": "4", "WORKERS": "0",
            "BATCH_SIZE": str(max(1, CLIPS_AN_UPDATE // self.processes)), "GRADIENT_ACCUMULATION": "1",
            "WARMUP_STEPS": "1", "LOGGING_STEPS": "1", "SAVE_STEPS": "1", "SEED": "1", "BF16": str(self.bf16),
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 8)), "PATH": path_with_python(self.folder),
            "DS_CONFIG": "" if self.name.startswith("cpu") else str(ROOT / "config" / "dp_config.json"),
            "SYSTEM_PROMPT": "short",
        }  # fmt: skip
        flags = ["--match_embedding_scale", "True"]
        if self.prefers:  # from log 2 the loss moves too little in six updates at the published rate
            env["LEARNING_RATE"], flags = "1e-3", ["--policy_dropout", "False"]
        if not self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ""
        script = ["bash", str(ROOT / f"train_stage{self.stage}.sh"), "--max_steps", str(STEPS)]
        return subprocess.Popen(
            script + flags, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip

    def whole(self) -> Course:
        """Raises RuntimeError with the run's last lines if it fails."""
        start, process = time.monotonic(), self.start()
        watch = threading.Timer(self.limit_seconds, process.kill)
        watch.start()
        output = process.communicate()[0]
        watch.cancel()
        if process.returncode:
            lines = "\n".join(output.strip().splitlines()[-5 * LINES_OF_A_FAILURE :])
            took = f"after {time.monotonic() - start:.0f} s"
            raise RuntimeError(f"{self.output.name} ended with status {process.returncode} {took}:\n{lines}")
        history = json.loads((self.output / "trainer_state.json").read_text())["log_history"]
        losses = {entry["step"]: entry["loss"] for entry in history if "loss" in entry}
        return Course(losses, time.monotonic() - start)

    def killed_and_resumed(self) -> Course:
        """SIGKILL to its launcher once half of its updates are logged, then the same command again."""
        start, process = time.monotonic(), self.start()
        watch = threading.Timer(self.limit_seconds, process.kill)
        watch.start()
        logged, output = 0, []
        for line in process.stdout:
            output.append(line)
            logged += "'learning_rate':" in line
            if logged == STEPS // 2:
                break
        process.kill()  # the launcher; the processes that it started end with it, and close its output
        process.communicate()
        watch.cancel()
        checkpoint = last_complete(self.output)
        if checkpoint is None or logged < STEPS // 2:
            raise RuntimeError(f"{self.output.name} wrote no checkpoint:\n{''.join(output[-LINES_OF_A_FAILURE:])}")
        course = self.whole()
        return Course(course.losses, time.monotonic() - start, checkpoint.name)


def path_with_python(folder: Path) -> str:
    """PATH on which `python` is this very interpreter, as the recipes want it."""
    program = folder / "bin" / "python"
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        draft = program.with_name(f"python-{threading.get_ident()}")
        draft.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        draft.chmod(0o755)
        draft.rename(program)
    return f"{program.parent}:{os.environ.get('PATH', '')}"


def compared(course: Course, reference: Course) -> dict[str, Any]:
    """A course held against another. Dropout differs from device to device, so stage 2's single losses do a little."""
    losses, expected = (np.array([c.losses[step] for step in sorted(c.losses)]) for c in (course, reference))
    if len(losses) != STEPS or len(expected) != STEPS:
        raise RuntimeError(f"{len(losses)} and {len(expected)} losses were logged; expected {STEPS} each")
    difference = abs(losses.mean() / expected.mean() - 1)
    figures = {
        "ok": bool(difference <= TOLERANCE),
        "mean_loss": float(losses.mean()),
        "expected": float(expected.mean()),
        "difference": float(difference),
        "worst_step": float(np.abs(losses / expected - 1).max()),
        "seconds": course.seconds,
    }
    if course.resumed_from:
        figures["resumed_from"] = course.resumed_from
        figures["ok"] &= int(re.sub(r"\D", "", course.resumed_from)) < STEPS
    return figures

"""Stage 4 as a user starts it: two processes, DeepSpeed, killed and resumed."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.configuration_DIFFA import ROOT
from src.lora import read_lora
from tests.conftest import GOLDEN2, short_encoder
from tests.test_train import kill_launcher, read_until_logged, same_course, steps_logged

PAIRS = [("one two three", "one two four five"), ("ten", "ten nine eight seven six")]
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def command(folder: Path) -> list[str]:
    entries = [
        {
            "audio_id": f"a{n}", "audio_filepath": str(GOLDEN2 / f"clip{n % 2}.wav"), "input": "hello",
            "chosen": PAIRS[n % 2][0], "rejected": PAIRS[n % 2][1], "transcription": "", "dataset": "golden",
            "duration": 1.0,
        }
        for n in range(6)
    ]  # fmt: skip
    (folder / "pairs.json").write_text(json.dumps(entries))
    settings = {
        "stage": 4, "start_checkpoint": GOLDEN2 / "diffa2_stage3", "llm_path": GOLDEN2 / "llada",
        "whisper_path": short_encoder(folder, GOLDEN2), "train_dataset_path": folder / "pairs.json",
        "output_dir": folder / "out",
        "max_steps": 6, "learning_rate": 1e-3, "per_device_train_batch_size": 1, "logging_steps": 1, "save_steps": 1,
        "report_to": "none", "dataloader_num_workers": 0, "use_cpu": True, "bf16": False, "ddp_backend": "gloo",
        "vrpo_draws": 2, "deepspeed": ROOT / "config" / "dp_config.json", "ddp_find_unused_parameters": False,
    }  # fmt: skip
    return [*LAUNCHER, str(ROOT / "train.py"), *(w for n, v in settings.items() for w in (f"--{n}", str(v)))]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(folder / "extensions")}


def run(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder), env=environment(folder), capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_kills_change_nothing_and_the_reference_stays_that_of_the_start(tmp_path):
    """ZeRO-1. Dropout, and a reference that no checkpoint holds, are the same after a kill."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    done = run(whole)
    assert done.returncode == 0, done.stderr[-3000:]
    moments = random.Random(4)
    for _ in range(2):
        process = subprocess.Popen(
            command(cut), env=environment(cut), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert steps_logged(read_until_logged(process, 2)) == 2  # the first one's checkpoint is there
        time.sleep(moments.uniform(0, 0.3))
        kill_launcher(process)
    finished = run(cut)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert steps_logged(finished.stdout) < 6, "it started over instead of resuming"
    same_course(cut / "out", whole / "out")
    assert all(factors.b.abs().sum() > 0 for factors in read_lora(cut / "out").factors.values())

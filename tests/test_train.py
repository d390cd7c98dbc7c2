"""The training recipes as a user starts them: shell scripts, processes, DeepSpeed, kill and resume."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import TrainerCallback

import train
from src.checkpoint import CheckpointError
from src.errors import reports_user_errors
from src.eval_wer import transcribe
from src.manifest import read_training_manifest
from src.modeling_DIFFA import DIFFAModel
from src.sft_trainer import dLLMTrainer
from src.training_checkpoint import is_complete, last_complete
from src.word_errors import total
from tests.conftest import GOLDEN, load_golden, short_encoder
from tests.src.test_sft_trainer import trainer_for
from tests.src.test_training_arguments import frozen_flags

ROOT = Path(__file__).parent.parent
STEPS = "--max_steps=12"  # of the runs that are compared
BEST = ["--eval_dataset_path", "x", "--eval_strategy", "steps", "--load_best_model_at_end", "True"]


def write_manifest(folder: Path, transcription: str = "") -> Path:
    entries = [
        {
            "audio_id": f"a{index}",
            "audio_filepath": str(GOLDEN / f"clip{index % 2}.wav"),
            "input": "What can you hear from the audio?",
            "target": ("one two three", "ten")[index % 2],
            "transcription": transcription,
            "dataset": "golden",
            "duration": 1.0,
        }
        for index in range(8)
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


def environment(folder: Path, **changes: str) -> dict[str, str]:
    settings = {
        "LLM_PATH": str(GOLDEN / "llada"), "WHISPER_PATH": str(short_encoder(folder)),
        "TRAIN_DATASET": str(folder / "manifest.json"), "OUTPUT_DIR": str(folder / "out"), "BATCH_SIZE": "1",
        "GRADIENT_ACCUMULATION": "1", "WARMUP_STEPS": "1", "LOGGING_STEPS": "1", "SAVE_STEPS": "1", "WORKERS": "0",
        "BF16": "False",
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }  # fmt: skip
    if changes.get("DS_CONFIG"):
        changes["DS_CONFIG"] = str(ROOT / changes["DS_CONFIG"])  # the scripts are started elsewhere
    return os.environ | settings | changes


def run(script: str, env: dict[str, str], *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(ROOT / script), *flags], env=env, cwd="/", capture_output=True, text=True, timeout=300
    )


def steps_logged(output: str) -> int:
    return output.count("'learning_rate':")


def stage2_environment(folder: Path, **changes: str) -> dict[str, str]:
    """Stage 2 has dropout, and so random numbers that a resumed run must go on with."""
    write_manifest(folder)
    stage1 = load_golden()
    stage1.prepare_training(1)
    stage1.save_pretrained(folder / "stage1")
    return environment(folder, STAGE1_CKPT=str(folder / "stage1"), **changes)


def start(script: str, env: dict[str, str], *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["bash", str(ROOT / script), *flags],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
    )  # fmt: skip


def read_until_logged(process: subprocess.Popen, steps: int) -> str:
    """Output up to where so many steps are logged, or to its end."""
    output = ""
    for line in process.stdout:
        output += line
        if steps_logged(output) == steps:
            break
    return output


def kill_launcher(process: subprocess.Popen) -> str:
    """SIGKILL the process that was started; those that it started must end by themselves. Output not yet read."""
    assert process.poll() is None, "the run ended before it could be killed"
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, "training went on after its launcher was killed"
    return output


def same_course(out: Path, reference: Path) -> None:
    """Losses and adapters of a run that was killed are those of one that was not."""
    losses, expected = (
        {
            e["step"]: e["loss"]
            for e in json.loads((run / "trainer_state.json").read_text())["log_history"]
            if "loss" in e
        }
        for run in (out, reference)
    )
    assert losses == pytest.approx(expected, abs=1e-4) and len(set(losses.values())) > 2
    adapters, wanted = (load_file(run / "model.safetensors") for run in (out, reference))
    assert set(adapters) == set(wanted)
    for name, tensor in adapters.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str, str], Path]:
    """Runs that were never interrupted, without DeepSpeed: whole(stage, nproc), the course that all others take.

    The processes that run tests side by side share them.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def run_once(stage: str, nproc: str) -> Path:
        folder = shared / f"whole-{stage}-{nproc}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                folder.mkdir()
                done = run(f"train_stage{stage}.sh", stage2_environment(folder, NPROC=nproc, DS_CONFIG=""), STEPS)
                assert done.returncode == 0, done.stderr[-3000:]
        return folder / "out"

    return run_once


@pytest.mark.slow
@pytest.mark.parametrize("nproc", ["1", "2"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, nproc, whole):
    """With DeepSpeed: the next test, and with one process tests/test_resume.py."""
    env = stage2_environment(tmp_path, NPROC=nproc, DS_CONFIG="")
    process = start("train_stage2.sh", env, STEPS)
    read_until_logged(process, 3)
    kill_launcher(process)
    assert is_complete(tmp_path / "out" / "checkpoint-2") and not (tmp_path / "out" / "trainer_state.json").exists()
    cut = last_complete(tmp_path / "out") / "model.safetensors"
    torn = tmp_path / "out" / "checkpoint-11"  # one that another program left half-written
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(cut.read_bytes()[:1000])

    finished = run("train_stage2.sh", env, STEPS)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "incomplete-checkpoint-11: this checkpoint is incomplete" in finished.stdout
    assert steps_logged(finished.stdout) <= 10, "it started over instead of resuming"
    same_course(tmp_path / "out", whole("2", nproc))

    model = load_file(tmp_path / "out" / "model.safetensors")
    assert {name.split(".")[0] for name in model} == {"semantic_connector", "acoustic_connector"}
    nothing_frozen_in(tmp_path / "out", used_deepspeed=False)
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())
    assert recorded["training"]["seed"] == 1 and recorded["versions"]["transformers"] == "4.49.0"
    if nproc == "1":
        return  # the check of settings knows nothing of processes
    refused = run("train_stage2.sh", env | {"SEED": "2"}, STEPS)
    assert refused.returncode != 0 and "train.py: " in refused.stderr
    assert "is of a run with other settings: order seed was 1, now 2. Use the same settings, " in refused.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == recorded


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "2"])
def test_kills_at_random_moments_change_nothing(tmp_path, stage, whole):
    """Two processes, ZeRO-1; two kills in each stage: one while a run starts, one while it trains."""
    env = stage2_environment(tmp_path, NPROC="2")
    script, moments = f"train_stage{stage}.sh", random.Random(int(stage))
    for starting in moments.sample((True, False), k=2):
        process = start(script, env, STEPS)
        if starting:
            while process.poll() is None and len(psutil.Process(process.pid).children()) < 2:  # the training processes
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 2))
        else:
            assert steps_logged(read_until_logged(process, 1)) == 1
            clock = time.monotonic()
            assert steps_logged(read_until_logged(process, 1)) == 1
            time.sleep(moments.uniform(0, time.monotonic() - clock))  # a step's time, at the machine's present load
        kill_launcher(process)
    finished = run(script, env, STEPS)
    assert finished.returncode == 0, finished.stderr[-3000:]
    same_course(tmp_path / "out", whole(stage, "2"))
    nothing_frozen_in(tmp_path / "out", used_deepspeed=True)
    assert not (tmp_path / "extensions").exists(), "DeepSpeed compiled something"


@pytest.mark.slow
def test_sigterm_has_a_checkpoint_written(tmp_path):
    """The launcher sends it on to every process, those that read audio included. In bf16, with ZeRO-1."""
    env = stage2_environment(tmp_path, NPROC="2", SAVE_STEPS="1000", WORKERS="1", BF16="True")
    process = start("train_stage2.sh", env, "--max_steps=1000")
    read_until_logged(process, 2)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1  # the launcher's; train.py's is 143
    last = last_complete(tmp_path / "out")
    assert f"train.py: asked to stop; the same command goes on from {last}\n" in output
    not_rounded(last)
    assert not (tmp_path / "out" / "model.safetensors").exists()  # it does not look finished


@pytest.mark.slow
def test_a_reading_process_that_is_killed_ends_the_job(tmp_path):
    """As the kernel kills one when memory runs out. The others are deaf to SIGTERM, and two trainers are waiting."""
    env = stage2_environment(tmp_path, NPROC="2", WORKERS="2", DS_CONFIG="")
    process = start("train_stage2.sh", env, "--max_steps=1000")
    read_until_logged(process, 2)
    family = psutil.Process(process.pid).children(recursive=True)
    next(child for child in family if child.name() == "pt_data_worker").kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1 and "train.py: a process that reads audio was killed, perhaps because " in output
    assert "goes on from the last checkpoint" in output
    assert psutil.wait_procs(family, timeout=60)[1] == []


def not_rounded(folder: Path) -> None:
    """The saved weights are DeepSpeed's own float32 ones, not the bf16 ones it leaves the model."""
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith("crossattention.self.key.bias"):  # its gradient is 0: it stays as it was read
            continue
        assert tensor.dtype == torch.float32 and not tensor.equal(tensor.bfloat16().float()), name


@pytest.fixture
def small_disk(tmp_path):
    """A disk that holds one checkpoint of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs to be root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, small_disk):
    env = stage2_environment(tmp_path, DS_CONFIG="", OUTPUT_DIR=str(small_disk))
    full = run("train_stage2.sh", env, "--max_steps=3")
    assert full.returncode != 0
    said = r"train\.py: .*checkpoint-(\d) could not be written, with \d MB free on its disk: .*checkpoint-(\d); make"
    step, last = map(int, re.search(said, full.stderr).groups())
    assert last == step - 1 and last_complete(small_disk) == small_disk / f"checkpoint-{last}", full.stderr
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    finished = run("train_stage2.sh", env, "--max_steps=3")
    assert finished.returncode == 0 and steps_logged(finished.stdout) == 3 - last


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(tmp_path):
    """Trainer alone would take one step more on every restart. In bf16, with ZeRO-3."""
    write_manifest(tmp_path)
    env = environment(tmp_path, DS_CONFIG="config/zero3.json", BF16="True", WARMUP_STEPS="0")
    assert run("train_stage1.sh", env, "--max_steps=1").returncode == 0
    not_rounded(tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    again = run("train_stage1.sh", env, "--max_steps=1")
    assert again.returncode == 0 and "nothing left to train" in again.stdout and steps_logged(again.stdout) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def nothing_frozen_in(folder: Path, used_deepspeed: bool) -> None:
    """No weight file names a frozen part, and all of them are small enough to hold adapters and their state alone."""
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".pt", ".bin", ".pth")]
    adapters = (folder / "model.safetensors").stat().st_size
    assert any("optim" in path.name for path in files)
    assert used_deepspeed == any("zero_pp_rank" in path.name for path in files)
    for path in files:
        content = path.read_bytes()  # names of weights stand uncompressed in both formats
        assert not re.search(rb"(llm|whisper)_model[\w.]*\.(weight|bias)", content), path
        assert len(content) < 3.5 * adapters, path  # float32 weights and two moments, and their names


@pytest.mark.slow
def test_stage_2_starts_from_stage_1(tmp_path):
    write_manifest(tmp_path)
    env = environment(tmp_path, DS_CONFIG="", OUTPUT_DIR=str(tmp_path / "s1"), BF16="")
    first = run("train_stage1.sh", env, "--max_steps=1")
    assert first.returncode == 0, first.stderr[-3000:]
    recorded = json.loads((tmp_path / "s1" / "run.json").read_text())
    assert recorded["precision"]["name"] == ("bfloat16" if recorded["training"]["bf16"] else "float32")
    assert "computing in {name}: {reason}".format(**recorded["precision"]) in first.stdout
    # a learning rate of zero: what stage 2 saves is what it started from
    env = environment(
        tmp_path, DS_CONFIG="", STAGE1_CKPT=str(tmp_path / "s1"), OUTPUT_DIR=str(tmp_path / "s2"), LEARNING_RATE="0"
    )
    second = run("train_stage2.sh", env, "--max_steps=1")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "stage 2: loaded semantic_connector; new acoustic_connector" in second.stdout
    stage1, stage2 = (load_file(tmp_path / name / "model.safetensors") for name in ("s1", "s2"))
    assert {name.split(".")[0] for name in stage2} == {"semantic_connector", "acoustic_connector"}
    for name, tensor in stage1.items():
        if name.startswith("semantic_connector."):
            assert tensor.equal(stage2[name]), name
    assert json.loads((tmp_path / "s2" / "config.json").read_text())["stage"] == 2


@pytest.mark.parametrize(("name", "stage"), [("dp_config", 1), ("zero2", 2), ("zero3", 3)])
def test_deepspeed_files_leave_the_recipe_to_the_flags(tmp_path, name, stage):
    file = ROOT / "config" / f"{name}.json"
    settings = json.loads(file.read_text())
    assert settings["zero_optimization"]["stage"] == stage
    assert all(settings[key] == "auto" for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"))
    assert not {"optimizer", "scheduler", "fp16"} & set(settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_other_ways_to_share_out_memory_give_the_same_course(tmp_path, name, whole):
    """With a kill and a resume."""
    env = stage2_environment(tmp_path, NPROC="2", DS_CONFIG=f"config/{name}.json")
    process = start("train_stage2.sh", env, STEPS)
    read_until_logged(process, 3)
    kill_launcher(process)
    finished = run("train_stage2.sh", env, STEPS)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert steps_logged(finished.stdout) <= 10, "it started over instead of resuming"
    same_course(tmp_path / "out", whole("2", "2"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dp_config", "zero3"])
def test_a_learning_rate_that_changes_takes_effect_under_deepspeed(tmp_path, name):
    env = stage2_environment(tmp_path, DS_CONFIG=f"config/{name}.json")
    assert run("train_stage2.sh", env, "--max_steps=2").returncode == 0
    still = run("train_stage2.sh", env | {"LEARNING_RATE": "0"}, "--max_steps=3")
    assert still.returncode == 0 and steps_logged(still.stdout) == 1, still.stderr[-3000:]
    before, after = (load_file(tmp_path / "out" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 3))
    assert all(tensor.equal(before[name]) for name, tensor in after.items())
    if name == "zero3":
        return  # what a checkpoint was written under is one question for all of DeepSpeed's stages
    refused = run("train_stage2.sh", env | {"DS_CONFIG": ""}, "--max_steps=4")
    assert refused.returncode != 0 and "Traceback (most" not in refused.stderr.partition("train.py: ")[0]
    assert "is of a run with other settings: the optimizer's state was written under DeepSpeed" in refused.stderr


@pytest.mark.slow
def test_every_split_of_an_update_gives_the_same_losses_however_memory_is_shared_out(tmp_path):
    """Processes x clips x accumulation, by DDP, ZeRO-1 and FSDP2; stage 1, since dropout draws by process."""
    write_manifest(tmp_path)
    ways = {
        "ddp": {"NPROC": "1", "BATCH_SIZE": "4", "DS_CONFIG": ""},
        "zero1": {"NPROC": "2", "GRADIENT_ACCUMULATION": "2", "DS_CONFIG": str(ROOT / "config" / "dp_config.json")},
        "fsdp": {"NPROC": "2", "BATCH_SIZE": "2", "FSDP_CONFIG": str(ROOT / "config" / "fsdp.yaml")},
    }
    courses = {}

    def train_by(way: str, name: str) -> int:
        """The steps that were taken; the course is that of the folder `name`."""
        env = environment(tmp_path, OUTPUT_DIR=str(tmp_path / name), **ways[way])
        done = run("train_stage1.sh", env, "--max_steps=6", "--loss_normalization=update", "--save_total_limit=6")
        assert done.returncode == 0, done.stderr[-3000:]
        log = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        courses[name] = [entry["loss"] for entry in log if "loss" in entry]
        return steps_logged(done.stdout)

    assert (train_by("ddp", "ddp"), train_by("zero1", "zero1")) == (6, 6)
    shutil.copytree(tmp_path / "ddp" / "checkpoint-3", tmp_path / "fsdp" / "checkpoint-3")
    assert train_by("fsdp", "fsdp") == 3  # from DDP's checkpoint
    shutil.copytree(tmp_path / "fsdp" / "checkpoint-4", tmp_path / "again" / "checkpoint-4")
    assert train_by("ddp", "again") == 2  # and back
    assert len(courses["ddp"]) == 6
    for name in ("zero1", "fsdp", "again"):
        assert courses[name] == pytest.approx(courses["ddp"], rel=1e-5), name
    weights, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("fsdp", "ddp"))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-4)
    nothing_frozen_in(tmp_path / "fsdp", used_deepspeed=False)


@pytest.mark.slow
def test_processes_share_out_an_evaluation(tmp_path):
    """Two processes, ZeRO-1, three clips; the loss of five, which they cannot share evenly."""
    entries = json.loads(write_manifest(tmp_path, transcription="hello there").read_text())
    (tmp_path / "dev.json").write_text(json.dumps(entries[:5]))
    samples, _ = read_training_manifest(tmp_path / "dev.json", stage=1, max_seconds=30, max_bad_fraction=0)
    env = environment(tmp_path, NPROC="2", DS_CONFIG="config/dp_config.json")
    flags = ["--max_steps", "2", "--eval_dataset_path", str(tmp_path / "dev.json"), "--eval_strategy", "steps"]
    flags += ["--eval_steps", "1", "--eval_wer_clips", "3", "--load_best_model_at_end"]
    flags += ["--metric_for_best_model", "wer"]
    done = run("train_stage1.sh", env, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    rates = {entry["step"]: entry["eval_wer"] for entry in state["log_history"] if "eval_wer" in entry}
    model = DIFFAModel.from_pretrained(tmp_path / "out")
    expected = total(transcribe(model, samples[:3], max_seconds=30).words)
    assert expected.length == 6 and min(rates.values()) == state["best_metric"] == expected.rate
    step = int(state["best_model_checkpoint"].rpartition("-")[2])
    (loss,) = (entry["eval_loss"] for entry in state["log_history"] if entry["step"] == step and "eval_loss" in entry)
    alone = trainer_for(model, tmp_path / "alone", samples=samples, per_device_eval_batch_size=3)
    assert loss == pytest.approx(alone.evaluate()["eval_loss"], rel=1e-5)
    assert list(rates) == [1, 2] and step in rates


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
def test_two_nodes_give_what_one_gives(tmp_path, whole):
    env = stage2_environment(tmp_path, DS_CONFIG="")
    env |= {"NNODES": "2", "NPROC": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [start("train_stage2.sh", env | {"NODE_RANK": rank}, STEPS) for rank in "01"]
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    same_course(tmp_path / "out", whole("2", "2"))


@pytest.mark.slow
def test_nodes_with_different_settings_do_not_start(tmp_path):
    env = stage2_environment(tmp_path, DS_CONFIG="")
    env |= {"NNODES": "2", "NPROC": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [start("train_stage2.sh", env | {"NODE_RANK": rank, "SEED": str(7 + int(rank))}, STEPS) for rank in "01"]
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [1, 1], outputs
    said = (
        r"train\.py: rank 1 on \S+ has other settings than rank 0 on \S+: --seed 8, not 7; order seed 8, not 7\. Start"
    )
    assert re.search(said, outputs[0] + outputs[1]) and not list((tmp_path / "out").glob("checkpoint-*"))


def train_here(monkeypatch, capsys, *flags: str) -> SimpleNamespace:
    """train.py in this process: its exit status, and what it printed."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *flags])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        status = reports_user_errors(train.main)()
    except SystemExit as end:
        status = end.code
    return SimpleNamespace(returncode=status, **capsys.readouterr()._asdict())


FAULTY = ["--output_dir", "/nowhere/out", "--use_cpu", "--stage"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["2"], "train.py: stage 2 starts from a stage-1 checkpoint: pass --stage1_checkpoint"),
        (["9"], "train.py: --stage is 9; expected 1 or 2 or 3"),
        (
            ["1", *BEST, "--eval_steps", "2", "--save_steps", "3"],
            "train.py: --load_best_model_at_end requires the saving steps to be a round multiple of the evaluation",
        ),
    ],
)
def test_contradicting_flags_are_said_without_a_traceback(tmp_path, monkeypatch, capsys, flags, message):
    write_manifest(tmp_path)
    result = train_here(monkeypatch, capsys, *frozen_flags(tmp_path, *FAULTY, *flags))
    assert result.returncode == 2 and message in result.err, result.err


def test_a_faulty_manifest_is_said_without_a_traceback_or_what_a_start_does_without(tmp_path):
    entries = json.loads(write_manifest(tmp_path).read_text())
    entries[1]["target"], entries[3]["audio_filepath"] = "", "/nowhere.wav"
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *frozen_flags(tmp_path, *FAULTY, "1")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", result.stderr, re.MULTILINE))
    message = (
        r"train.py: manifest .*manifest\.json: 2 of 8 entries cannot be trained on; .*\n"
        r"line 1, entry 2, a1: target is empty\nline 1, entry 4, a3: /nowhere.wav: no such audio file\n"
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr and re.search(message, result.stderr)
    assert "transformers.trainer" in imported, "the test no longer sees what is imported"
    slow = {"deepspeed", "gradio", "librosa", "pandas", "peft", "scipy", "sklearn", "tensorboard", "torch._dynamo"}
    assert imported & slow == set()


def test_a_start_that_is_refused_moves_nothing(tmp_path, monkeypatch, capsys):
    """Neither the checkpoints after the one asked for, nor those to be overwritten."""
    write_manifest(tmp_path)
    model, out = load_golden(), tmp_path / "out"
    model.prepare_training(2)
    for step in (2, 3):
        model.save_pretrained(out / f"checkpoint-{step}")
        (out / f"checkpoint-{step}" / "contents.json").write_text("{}")
        (out / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    shutil.copytree(out / "checkpoint-2", tmp_path / "stage2")
    (out / "run.json").write_text(json.dumps({"order": {"seed": 5}}))
    before = sorted(out.rglob("*"))
    stage2 = ["--stage", "2", "--stage1_checkpoint", str(tmp_path / "stage2")]
    for flags, message in (
        (["--stage", "1", "--resume_from_checkpoint", str(out / "checkpoint-2")], "checkpoint-2 is of stage 2, but"),
        ([*stage2, "--resume_from_checkpoint", str(out / "checkpoint-2")], "order seed was 5, now 42"),
        ([*stage2, "--overwrite_output_dir", "True"], "stage2 is a checkpoint of stage 2, but"),
    ):
        result = train_here(monkeypatch, capsys, *frozen_flags(tmp_path, "--use_cpu", "--output_dir", str(out), *flags))
        assert result.returncode == 2 and message in result.err, result.err
        assert [path for path in sorted(out.rglob("*")) if path.name != ".lock"] == before


def test_stage_2_starts_from_a_checkpoint_of_stage_1(tmp_path):
    model = load_golden()
    folders = [tmp_path / "stage1", tmp_path / "stage2"]
    for stage, folder in enumerate(folders, 1):
        model.prepare_training(stage)
        model.save_pretrained(folder)
    train.check_start(folders[0], 2)
    train.check_start(GOLDEN / "diffa_upstream", 2)  # holds all adapters and names no stage
    with pytest.raises(CheckpointError, match=r"stage2 is a checkpoint of stage 2, but .* needs one of stage 1"):
        train.check_start(folders[1], 2)


@pytest.mark.parametrize(
    ("number", "step", "status"),
    [(signal.SIGTERM, 1, 143), (signal.SIGINT, 1, 130), (signal.SIGHUP, 1, 129), (signal.SIGTERM, 2, 0)],
)
def test_only_a_run_with_steps_left_is_stopped_by_a_signal(tmp_path, monkeypatch, number, step, status):
    """In the last step there is nothing to stop: the final adapters are saved, and the status is 0."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    model = load_golden()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, max_steps=2, save_steps=100)

    class Ask(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == step - 1:
                handlers[number](number, None)

    trainer.add_callback(Ask())
    assert train.run(trainer, None) == status
    assert last_complete(tmp_path) == tmp_path / f"checkpoint-{step}"
    for name in ("model.safetensors", "config.json", "trainer_state.json"):
        assert (tmp_path / name).exists() == (status == 0), name


@pytest.mark.parametrize("best", [True, False])
def test_a_finished_run_started_again_ends_with_its_best_adapters_if_told_to(tmp_path, monkeypatch, best):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    state = {"global_step": 4, "best_model_checkpoint": "out/checkpoint-2"}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    loaded = []
    trainer = SimpleNamespace(
        args=SimpleNamespace(load_best_model_at_end=best), model=SimpleNamespace(load_adapters=loaded.append),
        steps_done=lambda _: 4, planned_steps=lambda: 4, save_state=lambda: None, save_model=lambda: None,
        make_up_last_evaluation=lambda: None, locate_best=lambda *_: None, stopped=False,
    )  # fmt: skip
    assert train.run(trainer, tmp_path) == 0
    assert loaded == [tmp_path, *([Path("out/checkpoint-2")] if best else [])]


def test_a_finished_run_whose_best_checkpoint_is_gone_keeps_its_best_adapters(tmp_path, monkeypatch, capsys):
    """One whose end was not written yet ends with what is left, the last ones."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(dLLMTrainer, "validation_loss", lambda self: {"loss": float(self.state.global_step)})
    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "greater_is_better": False}
    options |= {"metric_for_best_model": "loss", "max_steps": 2}
    model = load_golden()
    model.prepare_training(1)
    assert train.run(trainer_for(model, tmp_path, **options), None) == 0
    final, first, last = (tmp_path / name / "model.safetensors" for name in ("", "checkpoint-1", "checkpoint-2"))
    before = final.read_bytes()
    assert before == first.read_bytes() != last.read_bytes()
    shutil.rmtree(first.parent)
    assert train.run(trainer_for(model, tmp_path, **options), last.parent) == 0
    assert final.read_bytes() == before and f"{tmp_path} keeps the adapters that the" in capsys.readouterr().out
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 1}))  # of a shorter run before
    assert train.run(trainer_for(model, tmp_path, **options), last.parent) == 0
    assert final.read_bytes() == last.read_bytes()


@pytest.mark.parametrize(("interval", "last"), [("steps", 2), ("epoch", 2), ("epoch", 3)])  # two steps are an epoch
def test_the_evaluation_after_the_last_step_is_made_up(tmp_path, monkeypatch, interval, last):
    """Here it is the best one; a request to stop came while it was under way. A run may end within an epoch."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(dLLMTrainer, "validation_loss", lambda self: {"loss": 9.0 - self.state.global_step})
    options = {"eval_strategy": interval, "save_strategy": interval, "eval_steps": 1, "per_device_eval_batch_size": 1}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False}
    options["max_steps"] = last

    class Ask(TrainerCallback):
        def on_prediction_step(self, args, state, control, **_):
            stopped.stop_requested = state.global_step == last

    model = load_golden()
    model.prepare_training(1)
    stopped = trainer_for(model, tmp_path, **options)
    stopped.add_callback(Ask())
    assert train.run(stopped, None) == 143 and stopped.state.best_metric != 9 - last
    again, checkpoint = load_golden(), tmp_path / f"checkpoint-{last}"
    again.prepare_training(1)
    stopped = trainer_for(again, tmp_path, **options)
    stopped.add_callback(Ask())  # once more, in the evaluation that is made up
    assert train.run(stopped, checkpoint) == 143 and not (tmp_path / "model.safetensors").exists()
    assert train.run(trainer := trainer_for(again, tmp_path, **options), checkpoint) == 0
    assert trainer.state.best_metric == trainer.state.log_history[-1]["eval_loss"] == 9 - last
    final, best = (load_file(folder / "model.safetensors") for folder in (tmp_path, checkpoint))
    assert all(tensor.equal(best[name]) for name, tensor in final.items())

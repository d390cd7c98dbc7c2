"""What the shell scripts start, and what they refuse to; python and Slurm's commands are stand-ins that say so."""

import os
import re
import socket
import subprocess
import sys

import pytest

from tests.conftest import GOLDEN
from tests.test_train import ROOT, environment, run, write_manifest

BENCHMARKS = ("mmsu", "mmau", "mmar", "mmaupro", "airbench", "bigbenchaudio", "voicebench")  # with a run_*_inference.sh


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for python, which says how it was called, and for Slurm's commands on a job of two nodes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "python": 'case "$1" in -c) echo ${GPUS_HERE:-0} ;; '
        f"*) echo \"python $*\" | sed -E 's#{ROOT}/([a-z0-9_/]+[.]py)#\\1#g'; env | grep TORCH_EL >&2; true ;; esac",
        "scontrol": "[ \"$*\" = 'show hostnames node[7-8]' ] && printf 'node7\\nnode8\\n'",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit; done',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # empty, it hides them all
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))  # so that the script leaves the PATH alone


@pytest.mark.parametrize(
    ("script", "changes", "message"),
    [
        (
            "train_stage1.sh",
            {"LLM_PATH": ""},
            "set LLM_PATH to the LLaDA checkpoint .* huggingface-cli download GSAI",
        ),
        (
            "train_stage1.sh",
            {"WHISPER_PATH": "/nowhere"},
            "WHISPER_PATH=/nowhere does not exist; it must be the Whisper",
        ),
        ("train_stage1.sh", {"TRAIN_DATASET": ""}, "set TRAIN_DATASET to the training manifest"),
        ("train_stage2.sh", {"STAGE1_CKPT": ""}, "set STAGE1_CKPT to a stage-1 checkpoint .*train_stage1.sh"),
        ("train_stage3.sh", {"STAGE2_CKPT": ""}, "set STAGE2_CKPT to a stage-2 checkpoint .*train_stage2.sh"),
        (
            "train_stage1.sh",
            {"FAMILY": "diffa2", "WHISPER_PATH": ""},
            "huggingface-cli download openai/whisper-large-v3",
        ),
        ("train_stage1.sh", {"FAMILY": "DIFFA-2"}, "FAMILY=DIFFA-2; this stage has a recipe of diffa diffa2"),
        ("train_stage3.sh", {"FAMILY": "diffa"}, "FAMILY=diffa; this stage has a recipe of diffa2"),
        (
            "train_stage2.sh",
            {"STAGE1_CKPT": str(GOLDEN), "GLOBAL_BATCH": "192", "NPROC": "5", "BATCH_SIZE": "3"},
            "GLOBAL_BATCH=192 is no multiple of 15, which is NNODES 1 x NPROC 5 x BATCH_SIZE 3; choose another",
        ),
        ("train_stage1.sh", {"GLOBAL_BATCH": "0"}, "GLOBAL_BATCH=0; expected a whole number from 1 on"),
        ("train_stage1.sh", {"BATCH_SIZE": "many"}, "BATCH_SIZE=many; expected a whole number from 1 on"),
        (
            "train_stage1.sh",
            {"GLOBAL_BATCH": "8", "GRADIENT_ACCUMULATION": "2"},
            "GLOBAL_BATCH=8 asks for GRADIENT_ACCUMULATION=8, but it is 2; unset one of them",
        ),
        (
            "train_stage1.sh",
            {"TRAIN_DATASET": "/nowhere/qa.json:0.95 /nowhere/asr.json:0.05"},
            "/nowhere/qa.json, in TRAIN_DATASET, does not exist; it must be a training manifest",
        ),
        # not there, and looking like a hub's owner/name
        ("train_stage1.sh", {"TRAIN_DATASET": "data/none.json"}, "TRAIN_DATASET=data/none.json does not"),
        ("train_stage1.sh", {"TRAIN_DATASET": "corpora/all.json"}, "TRAIN_DATASET=corpora/all.json does not exist"),
        ("train_stage1.sh", {"LLM_PATH": "models/none"}, "LLM_PATH=models/none does not exist; .*huggingface-cli"),
        ("train_stage1.sh", {"WHISPER_PATH": "src/whisper"}, "WHISPER_PATH=src/whisper does not exist"),
        ("train_stage2.sh", {"STAGE1_CKPT": "exp/none"}, "STAGE1_CKPT=exp/none does not exist.*train_stage1.sh"),
        (
            "run_mmsu_inference.sh",
            {"MODEL_PATH": "exp/stage2"},
            "MODEL_PATH=exp/stage2 does not exist.*train_stage2.sh",
        ),
    ],
)
def test_missing_paths_stop_before_python_starts(tmp_path, commands, script, changes, message):
    write_manifest(tmp_path)
    result = run(script, environment(tmp_path, **changes))
    assert (result.returncode, result.stdout) == (2, "")
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize(
    "script",
    [
        "train_stage1",
        "train_stage2",
        "train_stage3",
        *(f"run_{name}_inference" for name in BENCHMARKS),
    ],
)
def test_frozen_parts_may_be_named_in_two_ways(tmp_path, commands, script):
    write_manifest(tmp_path)
    own = {"LLM_PATH": str(GOLDEN / "llada"), "WHISPER_PATH": str(GOLDEN / "whisper")}
    former = {"LLM_MODEL": own["LLM_PATH"], "WHISPER_MODEL": own["WHISPER_PATH"]}
    env = environment(
        tmp_path,
        MODEL_PATH=str(GOLDEN),
        STAGE1_CKPT=str(GOLDEN),
        STAGE2_CKPT=str(GOLDEN),
        STAGE3_CKPT=str(GOLDEN),
        DATA="bbh",
    )
    for name in own:
        env.pop(name)
    for names in (own, former, own | former):
        started = run(f"{script}.sh", env | names)
        flags = f"--llm_path {own['LLM_PATH']} --whisper_path {own['WHISPER_PATH']}"
        assert flags in started.stdout, started.stderr
    for name, other in zip(own, former, strict=True):
        refused = run(f"{script}.sh", env | own | {other: "models/other"})
        assert refused.returncode == 2 and refused.stdout == ""
        assert (
            f"{script}.sh: {name}={own[name]} and {other}=models/other are two names of one setting" in refused.stderr
        )


def test_a_hub_name_is_left_to_the_hub(tmp_path, commands):
    write_manifest(tmp_path)
    started = run("train_stage1.sh", environment(tmp_path, LLM_PATH="GSAI-ML/LLaDA-8B-Instruct"))
    assert "--llm_path GSAI-ML/LLaDA-8B-Instruct" in started.stdout, started.stderr


def test_a_mixture_of_manifests_reaches_train_py_as_it_is(tmp_path, commands):
    manifest = write_manifest(tmp_path)
    mixture = f"{manifest}:0.95 {tmp_path}/none.json:0.05"
    missing = run("train_stage1.sh", environment(tmp_path, TRAIN_DATASET=mixture))
    assert missing.returncode == 2 and f"{tmp_path}/none.json, in TRAIN_DATASET, does not exist" in missing.stderr
    (tmp_path / "none.json").touch()
    assert settings_of(run("train_stage1.sh", environment(tmp_path, TRAIN_DATASET=mixture)).stdout)[
        "train_dataset_path"
    ] == mixture  # fmt: skip


def test_each_process_needs_a_gpu_where_there_are_any(tmp_path, commands):
    write_manifest(tmp_path)
    gpus = environment(tmp_path, GPUS_HERE="2", MODEL_PATH=str(GOLDEN))
    refused = run("train_stage1.sh", gpus | {"NPROC": "3"})
    assert refused.returncode == 2 and "NPROC=3 processes need a GPU each, and PyTorch finds 2" in refused.stderr
    gpus.pop("NPROC", None)
    assert "--nproc_per_node 2 train.py" in run("train_stage1.sh", gpus).stdout
    assert "--nproc_per_node 2 inference" in run("run_mmau_inference.sh", gpus | {"DEVICE": "cuda"}).stdout
    assert run("run_mmau_inference.sh", gpus | {"DEVICE": "cuda:1"}).stdout.startswith("python inference_stage2_mmau")
    hidden = run("train_stage1.sh", gpus | {"CUDA_VISIBLE_DEVICES": ""}).stdout
    assert "--nproc_per_node 1 train.py" in hidden and "--use_cpu" in hidden


@pytest.mark.parametrize(
    ("version", "count"), [("cuda = '12.8'; hip = None", "3"), ("cuda = None; hip = '6.4'", "3"), (None, "3"),
                           ("cuda = None; hip = None", "0"), ("cuda = None", "0")],
)  # fmt: skip
def test_gpus_are_asked_for_only_where_pytorch_was_built_for_some(tmp_path, monkeypatch, version, count):
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("from types import SimpleNamespace\nprint('imported')\n"
                                       "cuda = SimpleNamespace(device_count=lambda: 3)\n")  # fmt: skip
    if version:  # very old versions have no such file
        (torch / "version.py").write_text(version)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    counted = subprocess.run(
        ["bash", "-c", f"source {ROOT / 'config' / 'launch.sh'}; count_gpus"], capture_output=True, text=True, cwd="/"
    )
    assert counted.stdout.split() == (["0"] if count == "0" else ["imported", count]) and counted.stderr == ""


def settings_of(started: str) -> dict[str, str]:
    """The flags of train.py, by name, that a script started it with."""
    words = re.findall(r"--(\w+) ((?:(?! --).)*)", started.partition(" train.py ")[2].strip())
    return {name: value.strip() for name, value in words}


@pytest.mark.parametrize(
    ("script", "family", "expected", "published"),
    [  # batch, accumulation, epochs, rate, schedule, warm-up, seed; clips an update on the published number of GPUs
        ("train_stage1.sh", "", ("16", "2", "10", "1e-4", "linear", "1000", "1"), (4, 128)),
        ("train_stage2.sh", "diffa", ("4", "2", "10", "5e-5", "cosine", "2000", "1"), (4, 32)),
        ("train_stage1.sh", "diffa2", ("20", "1", "20", "1e-4", "linear", "1000", "42"), (64, 1280)),
        ("train_stage2.sh", "diffa2", ("3", "1", "10", "5e-5", "cosine", "1000", "42"), (64, 192)),
        ("train_stage3.sh", "", ("3", "1", "10", "5e-5", "cosine", "1000", "42"), (64, 192)),
        ("train_stage4.sh", "", ("1", "1", "10", "5e-5", "cosine", "1000", "42"), (16, 16)),
    ],
)
def test_each_familys_recipe_is_the_published_one(tmp_path, commands, script, family, expected, published):
    write_manifest(tmp_path)
    env = environment(
        tmp_path, FAMILY=family, STAGE1_CKPT=str(GOLDEN), STAGE2_CKPT=str(GOLDEN), STAGE3_CKPT=str(GOLDEN), NPROC="8"
    )
    for name in ("BATCH_SIZE", "GRADIENT_ACCUMULATION", "WARMUP_STEPS"):
        env.pop(name)
    gpus, batch = published
    nodes = env | {"NNODES": str(gpus // 4), "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "NPROC": "4"}
    started = run(script, nodes if gpus > 4 else env | {"NPROC": "4"})
    flags = settings_of(started.stdout)
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "learning_rate",
             "lr_scheduler_type", "warmup_steps", "seed")  # fmt: skip
    assert tuple(flags[name] for name in names) == expected
    assert (flags["weight_decay"], flags["max_grad_norm"]) == ("0.05", "1.0")
    of_diffa2 = family == "diffa2" or script in ("train_stage3.sh", "train_stage4.sh")
    assert (flags["family"], flags["system_prompt"]) == (("diffa2", "long") if of_diffa2 else ("diffa", "short"))
    assert f"{script}: effective batch size {batch} (" in started.stderr and "published" not in started.stderr
    lora = {name: flags.get(f"lora_{name}") for name in ("r", "alpha", "dropout")}
    assert (lora == {"r": "8", "alpha": "16", "dropout": "0.05"}) == (script == "train_stage3.sh")
    assert (flags.get("vrpo_draws"), flags.get("vrpo_beta")) == (("4", "0.2") if "stage4" in script else (None, None))
    alone = run(script, env | {"BATCH_SIZE": "1", "GLOBAL_BATCH": str(batch), "SYSTEM_PROMPT": "Be brief."})
    assert settings_of(alone.stdout)["gradient_accumulation_steps"] == str(batch // 8)
    assert settings_of(alone.stdout)["system_prompt"] == "Be brief."
    other = run(script, env | {"BATCH_SIZE": "1", "GRADIENT_ACCUMULATION": "1"})
    product = "NNODES 1 x NPROC 8 x BATCH_SIZE 1 x GRADIENT_ACCUMULATION 1"
    hint = f"published: {batch}, which GLOBAL_BATCH={batch} gives"
    assert f"{script}: effective batch size 8 ({product}); {hint}" in other.stderr


def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path, commands):
    write_manifest(tmp_path)
    stand_in = tmp_path / "bin" / "python"
    real = f'case "$2" in *create_server*) exec {sys.executable} "$@" ;; esac'
    stand_in.write_text(stand_in.read_text().replace("bash\n", f"bash\n{real}\n", 1))
    nodes = environment(tmp_path, NNODES="2", NPROC="1", MASTER_ADDR="127.0.0.1")
    with socket.create_server(("", 0)) as taken:
        nodes["MASTER_PORT"] = port = str(taken.getsockname()[1])
        refused = run("train_stage1.sh", nodes | {"NODE_RANK": "0"})
        assert (refused.returncode, refused.stdout) == (2, "")
        assert (
            f"port MASTER_PORT={port} cannot be opened on this machine, perhaps because another run" in refused.stderr
        )
        assert f"--master_port {port}" in run("train_stage1.sh", nodes | {"NODE_RANK": "1"}).stdout  # not its own port
    assert f"--master_port {port}" in run("train_stage1.sh", nodes | {"NODE_RANK": "0"}).stdout


def test_more_nodes_reach_the_launcher(tmp_path, commands):
    write_manifest(tmp_path)
    nodes = {"NNODES": "2", "NPROC": "3"}
    incomplete = run("train_stage1.sh", environment(tmp_path, **nodes, NODE_RANK="1"))
    assert incomplete.returncode == 2 and "NNODES=2 needs NODE_RANK" in incomplete.stderr
    assert "MASTER_ADDR is not set" in incomplete.stderr
    nodes |= {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "12345"}
    started = run("train_stage1.sh", environment(tmp_path, **nodes), "--max_steps=1").stdout
    launcher = "-m torch.distributed.run --nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 12345"
    assert started.startswith(f"python {launcher} --nproc_per_node 3 train.py --stage 1 ")
    assert started.rstrip().endswith("--max_steps=1")
    alone = run("train_stage1.sh", environment(tmp_path, MASTER_ADDR="10.0.0.1")).stdout
    assert alone.startswith("python -m torch.distributed.run --standalone --nproc_per_node 1 train.py ")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_more_nodes_share_a_benchmark_and_the_first_one_scores(tmp_path, commands, benchmark):
    script, model = f"run_{benchmark}_inference.sh", {"MODEL_PATH": str(GOLDEN), "DATA": "bbh"}
    nodes = environment(tmp_path, **model, NNODES="2", NPROC="1", MASTER_ADDR="10.0.0.1", OUTPUT="o")
    incomplete = run(script, nodes)
    assert incomplete.returncode == 2 and "NODE_RANK is not set" in incomplete.stderr
    started = [run(script, nodes | {"NODE_RANK": rank}).stdout.splitlines() for rank in "01"]
    for rank, lines in enumerate(started):
        launcher = f"--nnodes 2 --node_rank {rank} --master_addr 10.0.0.1 --master_port 29500 --nproc_per_node 1"
        assert lines[0].startswith(f"python -m torch.distributed.run {launcher} inference_stage2_{benchmark}.py ")
        assert " --output o" in lines[0]
    assert [len(lines) for lines in started] == [2, 1] and f"{benchmark}/evaluate.py o" in started[0][1]
    alone = run(script, environment(tmp_path, **model, NPROC="3")).stdout
    assert alone.startswith(
        f"python -m torch.distributed.run --standalone --nproc_per_node 3 inference_stage2_{benchmark}"
    )
    assert run(script, environment(tmp_path, **model)).stdout.startswith("python inference_stage2_")


def test_voicebench_scores_no_other_model(tmp_path, commands):
    """Not even one whose name goes on as if it were a subset."""
    (tmp_path / "o").mkdir()
    files = {
        name: tmp_path / "o" / f"{GOLDEN.name}-{name}-audio.jsonl"
        for name in ("bbh-test", "sd-qa-usa", "mmsu-test", "long-mmsu-test", "mmsu-bbh-test", "mmsu-mmsu-test")
    }
    for file in files.values():
        file.touch()
    settings = {"MODEL_PATH": str(GOLDEN), "OUTPUT": str(tmp_path / "o"), "JUDGE_URL": "http://localhost"}
    lines = run("run_voicebench_inference.sh", environment(tmp_path, **settings, DATA="mmsu sd-qa")).stdout.splitlines()
    sd_qa = str(files["sd-qa-usa"])
    assert [line.removeprefix("python voicebench/") for line in lines[1:]] == [
        f"evaluate.py {files['mmsu-test']}",
        f"judge.py {sd_qa} --base_url http://localhost --model gpt-4o-mini",
        f"evaluate.py {sd_qa}",
    ]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 0), (2, 1)])
def test_voicebench_overall_is_of_the_files_just_scored(tmp_path, commands, status, code):
    """And where these cannot be put together, for another reason than that some are missing, the script says so."""
    stand_in = tmp_path / "bin" / "python"
    answers = 'if [ "$1 $3" = "-c " ] && [[ "$2" == *LEADERBOARD* ]]; then echo bbh mmsu; exit; fi\n'
    overall = f'if [ "$2" = --overall ]; then echo "python $*"; exit {status}; fi\n'
    stand_in.write_text(stand_in.read_text().replace("bash\n", "bash\n" + answers + overall, 1))
    (tmp_path / "o").mkdir()
    files = [tmp_path / "o" / f"{GOLDEN.name}-{name}-audio.jsonl" for name in ("bbh-test", "mmsu-test")]
    for file in (*files, tmp_path / "o" / f"{GOLDEN.name}-long-mmsu-test-audio.jsonl.scores.json"):
        file.touch()
    settings = {"MODEL_PATH": str(GOLDEN), "OUTPUT": str(tmp_path / "o")}
    done = run("run_voicebench_inference.sh", environment(tmp_path, **settings))
    assert done.stdout.splitlines()[-1] == f"python {ROOT}/voicebench/evaluate.py --overall " + " ".join(
        f"{file}.scores.json" for file in files
    )
    assert done.returncode == code


def test_a_refused_subset_does_not_keep_the_rest_of_voicebench_from_being_scored(tmp_path, commands):
    """It ends as the worst of them does: of broken lines (1) the others count, what is refused (2) does not."""
    stand_in = tmp_path / "bin" / "python"
    answers = 'if [ "$1 $3" = "-c " ] && [[ "$2" == *LEADERBOARD* ]]; then echo sd-qa bbh mmsu; exit; fi\n'
    refuses = 'case "$2" in *-sd-qa-usa*) exit 2 ;; *-bbh-test*) exit 1 ;; esac\n'
    stand_in.write_text(stand_in.read_text().replace("bash\n", f"bash\n{answers}", 1) + refuses)
    (tmp_path / "o").mkdir()
    files = [tmp_path / "o" / f"{GOLDEN.name}-{name}-audio.jsonl" for name in ("sd-qa-usa", "bbh-test", "mmsu-test")]
    for file in files:
        file.touch()
    settings = {"MODEL_PATH": str(GOLDEN), "OUTPUT": str(tmp_path / "o")}
    done = run("run_voicebench_inference.sh", environment(tmp_path, **settings, DATA="sd-qa bbh mmsu"))
    scored = [f"python voicebench/evaluate.py {file}" for file in files]
    assert done.stdout.splitlines()[1:] == scored and done.returncode == 2
    done = run("run_voicebench_inference.sh", environment(tmp_path, **settings))
    overall = f"python voicebench/evaluate.py --overall {files[1]}.scores.json {files[2]}.scores.json"
    assert done.stdout.splitlines()[1:] == [*scored, overall] and done.returncode == 2


@pytest.mark.parametrize("stage", ["1", "2", "3", "4"])
def test_slurm_starts_the_script_on_every_node(tmp_path, commands, stage):
    write_manifest(tmp_path)
    job = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "123456"}
    job |= {
        "SLURM_SUBMIT_DIR": str(ROOT),
        "STAGE1_CKPT": str(tmp_path),
        "STAGE2_CKPT": str(tmp_path),
        "STAGE3_CKPT": str(tmp_path),
    }
    result = run("config/slurm.sbatch", environment(tmp_path, **job), f"train_stage{stage}.sh", "--max_steps=1")
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    for rank, line in enumerate(lines):
        assert f"--nnodes 2 --node_rank {rank} --master_addr node7 --master_port 23456" in line
        assert f"train.py --stage {stage} " in line and line.endswith("--max_steps=1")
    # the launcher kills what is not done by then, and Slurm what is left a little later
    waits = re.findall(r"^TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)$", result.stderr, flags=re.MULTILINE)
    notice = re.search(r"--signal=TERM@(\d+)", (ROOT / "config" / "slurm.sbatch").read_text())[1]
    assert set(waits) == {"110"} and int(notice) == 120
    unnamed = run("config/slurm.sbatch", environment(tmp_path, **job))
    assert unnamed.returncode != 0 and "name a script: train_stage1.sh, ..., train_stage4.sh" in unnamed.stderr


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_paths_count_from_where_a_training_script_is_started(stage, commands, tmp_path, monkeypatch):
    """Files of these names in the repository play no part."""
    elsewhere = tmp_path / "elsewhere"
    for name in ("models/llada", "models/whisper", "exp/stage1"):
        (elsewhere / name).mkdir(parents=True)
    (elsewhere / "README.md").write_text("[]")
    given = {"LLM_PATH": "models/llada", "WHISPER_PATH": "models/whisper", "TRAIN_DATASET": "README.md"}
    given |= {"STAGE1_CKPT": "exp/stage1", "STAGE2_CKPT": "exp/stage1", "OUTPUT_DIR": "out"}
    env = environment(tmp_path) | given
    start = ["bash", os.path.relpath(ROOT / f"train_stage{stage}.sh", elsewhere)]
    done = subprocess.run(start, env=env, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    flags = settings_of(done.stdout)
    assert (flags["train_dataset_path"], flags["output_dir"]) == ("README.md", "out")
    assert flags["deepspeed"] == str(ROOT / "config" / "dp_config.json")
    (elsewhere / "README.md").unlink()
    done = subprocess.run(start, env=env, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 2 and "TRAIN_DATASET=README.md does not exist" in done.stderr


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_paths_count_from_where_an_inference_script_is_started(benchmark, commands, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "docs").mkdir(parents=True)
    given = {"MODEL_PATH": "docs", "INPUT": "in.jsonl", "OUTPUT": "out.jsonl", "LLM_PATH": "", "DATA": "advbench"}
    start = ["bash", os.path.relpath(ROOT / f"run_{benchmark}_inference.sh", elsewhere)]
    done = subprocess.run(start, env=os.environ | given, cwd=elsewhere, capture_output=True, text=True)
    started = done.stdout.splitlines()
    assert started[0].startswith(f"python inference_stage2_{benchmark}.py --model_path docs "), done.stderr
    assert " --input in.jsonl" in started[0] and started[0].endswith(" --output out.jsonl")
    if benchmark != "voicebench":
        assert started[1:] == [f"python {benchmark}/evaluate.py out.jsonl"]
    (elsewhere / "docs").rmdir()  # there is one in the repository
    done = subprocess.run(start, env=os.environ | given, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 2 and "MODEL_PATH=docs does not exist" in done.stderr

import json
import os
import random
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

import inference_stage1_asr
import inference_stage2_mmau
import inference_stage2_mmsu
import inference_stage2_voicebench
from evaluation import parquet_audio
from evaluation.benchmarks import MMAU
from evaluation.runner import Parts
from evaluation.tasks import read_items, swap
from src import loading
from src.audio import read_audio
from src.generation_options import PRESETS
from src.inference_flags import OptionError
from src.llm_generate import GenerationOptions
from src.modeling_DIFFA import Answers, DIFFAModel
from src.processes import Ranks
from src.prompts import VOICEBENCH_PROMPT, mmau_instruction, mmsu_instruction
from voicebench.evaluate import main as evaluate_voicebench

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODEL = [
    "--model_path", str(GOLDEN / "diffa_upstream"), "--llm_path", str(GOLDEN / "llada"),
    "--whisper_path", str(GOLDEN / "whisper"),
]  # fmt: skip
CHOICES = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": None}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture
def folder(tmp_path):
    """An MMSU file of six questions about the three clips, and the clips."""
    for n in range(3):
        shutil.copy(GOLDEN / f"clip{n}.wav", tmp_path)
    write_lines(tmp_path / "mmsu.jsonl", [question(n) for n in range(6)])
    return tmp_path


def question(n, **changes):
    return {
        "id": n,
        "audio_path": f"clip{n % 3}.wav",
        "question": f"Is it {n}?",
        **CHOICES,
        "answer_gt": "one",
    } | changes


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class EchoModel:
    """Stands in for DIFFA where only the way of the items matters: its answer tells what it heard and was told."""

    feature_extractor = SimpleNamespace(n_samples=480_000)

    def __init__(self):
        self.batches = []

    def answer(self, waveforms, instructions, options):
        """As if each answer had three tokens and took two forward passes."""
        self.batches.append(count := len(waveforms))
        texts = [f"{len(waveform)} {text}" for waveform, text in zip(waveforms, instructions, strict=True)]
        return Answers(texts, torch.zeros(count, 3, dtype=torch.int64), [3] * count, [2] * count)


@pytest.fixture
def echo(monkeypatch):
    model = EchoModel()
    monkeypatch.setattr(Parts, "load", lambda *_: model)
    return model


@pytest.fixture
def no_model(monkeypatch):
    def load(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Parts, "load", load)


def mmsu(folder, *flags, output="out.jsonl"):
    arguments = [*MODEL, "--input_jsonl", folder / "mmsu.jsonl", "--output_jsonl", folder / output, *flags]
    return inference_stage2_mmsu.main([str(argument) for argument in arguments])


# --- the real model ------------------------------------------------------------------------------------------------


def test_published_checkpoint_is_driven_by_the_published_flags(folder, model):
    command = [
        sys.executable, str(ROOT / "inference_stage2_mmsu.py"), *MODEL, "--input_jsonl", "mmsu.jsonl",
        "--output_jsonl", "new/out.jsonl", "--steps", "4", "--block_length", "4", "--max_new_tokens", "4",
        "--limit", "3",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    texts = [mmsu_instruction(f"Is it {n}?", list(CHOICES.values())) for n in range(3)]
    waveforms = [read_audio(GOLDEN / f"clip{n}.wav") for n in range(3)]
    expected = [
        model.generate([waveform], [text], GenerationOptions(steps=4, block_length=4, max_new_tokens=4))[0]
        for waveform, text in zip(waveforms, texts, strict=True)
    ]
    assert lines(folder / "new" / "out.jsonl") == [
        {**question(n), "response": answer} for n, answer in enumerate(expected)
    ]
    meta = json.loads((folder / "new" / "out.jsonl.meta.json").read_text())
    assert meta["settings"]["steps"] == 4 and meta["settings"]["stage"] == 2 and meta["items"] == 3
    assert meta["settings"]["checkpoint pytorch_model.bin"].isalnum() and meta["versions"]["torch"]
    assert meta["items_per_second"] > 0 and meta["started"] <= meta["ended"]
    assert meta["forward_passes_per_item"] == 4 and meta["tokens_per_second"] > 0


def test_answers_do_not_depend_on_the_batch(folder, model, monkeypatch):
    monkeypatch.setattr(Parts, "load", lambda *_: model)
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(9)])
    for size in (1, 3, 8):
        assert mmsu(folder, "--batch_size", size, output=f"{size}.jsonl") == 0
    single = (folder / "1.jsonl").read_text()
    assert len(set(line["response"] for line in lines(folder / "1.jsonl"))) > 3
    assert single == (folder / "3.jsonl").read_text() == (folder / "8.jsonl").read_text()


@pytest.fixture(scope="module")
def built_in():
    return DIFFAModel.from_pretrained(loading.MODEL, loading.LLM, loading.WHISPER)


def asked_of_clips(folder):
    """MMAU's list and VoiceBench's lines: nine questions about the five example clips, WAV, FLAC, MP3 and Ogg."""
    clips = [ROOT / "examples" / name for name in ("clip.wav", "sheep.flac", "siren.flac", "melody.mp3", "story.ogg")]
    asked = [
        ("Which colour is named?", ["brown", "blue", "green"]), ("Which animal is named?", ["cat", "sheep"]),
        ("Which sound is it?", ["siren", "bell", "rain"]), ("How does the melody move?", ["rising", "falling"]),
    ]  # fmt: skip
    records = [
        {"id": str(n), "audio_id": str(clips[n % 5]), "question": question, "choices": choices, "answer": choices[0]}
        for n, (question, choices) in enumerate([*asked, asked[0], asked[1], asked[1], asked[2], asked[3]])
    ]
    (folder / "mmau.json").write_text(json.dumps(records))
    write_lines(folder / "bbh" / "test.jsonl", [{"id": n, "audio": str(clips[n % 5])} for n in range(9)])


def answer_both(folder, name, *flags):
    """Texts of the answers to both benchmarks' files, item by item."""
    parts = ["--llm_path", str(loading.LLM), "--whisper_path", str(loading.WHISPER), *flags]
    parts += ["--model_path", str(loading.MODEL), "--steps", "4"]
    mmau, lines_out = folder / f"{name}.json", folder / f"{name}.jsonl"
    asked = ["--data", "bbh", "--data_path", str(folder), "--output_json", str(lines_out)]
    for script, arguments in (
        (inference_stage2_mmau, ["--input_json", str(folder / "mmau.json"), "--output_json", str(mmau)]),
        (inference_stage2_voicebench, asked),
    ):
        try:
            assert script.main([*parts, *arguments]) == 0
        except SystemExit as end:  # a process among several ends itself
            assert end.code == 0
    if mmau.exists() and lines_out.exists():
        return [
            [i["model_prediction"] for i in json.loads(mmau.read_text())],
            [i["response"] for i in lines(lines_out)],
        ]
    return None


def test_batches_and_ranks_give_the_miniatures_answers(tmp_path, built_in, monkeypatch):
    monkeypatch.setattr(Parts, "load", lambda *_: built_in)
    asked_of_clips(tmp_path)
    alone = answer_both(tmp_path, "1", "--batch_size", "1")
    assert [len(answers) for answers in alone] == [9, 9] and all(len(set(answers)) > 3 for answers in alone)
    for size in ("3", "8"):
        assert answer_both(tmp_path, size, "--batch_size", size) == alone
    monkeypatch.setattr(Ranks, "wait", lambda self: None)
    monkeypatch.setattr(Ranks, "total", lambda self, numbers: list(numbers))
    for rank, answered in ((1, None), (0, alone)):  # one after the other in this process; the first one writes
        monkeypatch.setattr(Ranks, "join", partial(Ranks, rank, 2))
        assert answer_both(tmp_path, "ranks", "--batch_size", "3") == answered
    for name in ("ranks.json", "ranks.jsonl"):
        meta = json.loads((tmp_path / f"{name}.meta.json").read_text())
        assert (meta["ranks"], meta["answered_in_this_run"]) == (2, 5)  # the other four were there


def test_checkpoint_of_the_other_stage_is_refused(folder, model, tmp_path, capsys):
    saved, stage = model.saved_modules, model.config.stage
    model.saved_modules, model.config.stage = ("trainable_prompts", "semantic_connector"), 1
    try:
        model.save_pretrained(tmp_path / "stage1")
    finally:
        model.saved_modules, model.config.stage = saved, stage
    assert mmsu(folder, "--model_path", tmp_path / "stage1") == 2
    assert "holds no acoustic_connector, which stage 2 needs" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(folder, model, monkeypatch):
    """Two ranks are killed three times, one of them or both, and once more started to finish."""
    rng, count = random.Random(3), 32
    slow = ["--steps", "16", "--block_length", "16", "--max_new_tokens", "16"]  # so that kills do not come too late
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(count)])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(ROOT / "inference_stage2_mmsu.py"), *MODEL, "--input_jsonl", "mmsu.jsonl", "--output_jsonl", "out.jsonl",
        "--device", "cpu", *slow,
    ]  # fmt: skip
    answered = 0
    for victims in (1, 2, 1):
        launcher = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        goal, deadline = answered + rng.randint(1, 5), time.monotonic() + 120
        while on_disk(folder) < goal and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        ranks = psutil.Process(launcher.pid).children()
        assert len(ranks) == 2, "the run ended before it could be killed"
        for rank in rng.sample(ranks, victims):
            rank.kill()
        if victims == 2:
            launcher.kill()
        assert launcher.wait(timeout=60) != 0
        psutil.wait_procs(ranks, timeout=60)
        assert answered < on_disk(folder) < count and not (folder / "out.jsonl").exists()
        answered = on_disk(folder)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    meta = json.loads((folder / "out.jsonl.meta.json").read_text())
    assert (meta["answered_in_this_run"], meta["ranks"]) == (count - answered, 2)
    monkeypatch.setattr(Parts, "load", lambda *_: model)
    assert mmsu(folder, "--batch_size", 8, *slow, output="whole.jsonl") == 0
    assert (folder / "out.jsonl").read_text() == (folder / "whole.jsonl").read_text()
    assert [line["id"] for line in lines(folder / "out.jsonl")] == list(range(count))
    assert sorted(path.name for path in folder.glob("out*")) == ["out.jsonl", "out.jsonl.meta.json"]


def on_disk(folder):
    """Answers in the unfinished files of all ranks, below the line that tells their settings."""
    return sum(max(0, path.read_text().count("\n") - 1) for path in folder.glob("out.jsonl.partial*"))


# --- the way of the items ------------------------------------------------------------------------------------------


def test_items_keep_their_order_fields_and_audio(folder, echo):
    assert mmsu(folder, "--batch_size", 4) == 0
    sizes = [len(read_audio(GOLDEN / f"clip{n}.wav")) for n in range(3)]
    for n, line in enumerate(lines(folder / "out.jsonl")):
        assert line.pop("response") == f"{sizes[n % 3]} {mmsu_instruction(f'Is it {n}?', ['one', 'two', 'three'])}"
        assert line == question(n)
    assert echo.batches == [4, 2]


def test_an_interrupted_run_goes_on_where_it_stopped(folder, echo, monkeypatch):
    mmsu(folder, output="whole.jsonl")
    answer = echo.answer

    def fail_at_third(*arguments):
        if len(echo.batches) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    echo.batches.clear()
    monkeypatch.setattr(echo, "answer", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        mmsu(folder)
    assert not (folder / "out.jsonl").exists() and len(lines(folder / "out.jsonl.partial")) == 3
    monkeypatch.setattr(echo, "answer", answer)
    echo.batches.clear()
    assert mmsu(folder) == 0
    assert echo.batches == [1] * 4
    assert (folder / "out.jsonl").read_text() == (folder / "whole.jsonl").read_text()
    assert not (folder / "out.jsonl.partial").exists()


def test_a_finished_run_loads_no_model(folder, echo, monkeypatch):
    assert mmsu(folder, "--limit", 2) == 0
    assert mmsu(folder, "--batch_size", 3) == 0  # the limit and the batch size may change
    assert echo.batches == [1, 1, 3, 1]
    before = (folder / "out.jsonl").read_text()
    monkeypatch.setattr(Parts, "load", lambda *_: pytest.fail("the model was loaded"))
    assert mmsu(folder) == 0
    assert (folder / "out.jsonl").read_text() == before and len(before.splitlines()) == 6


def test_other_settings_are_refused_until_told_to_overwrite(folder, echo, capsys):
    assert mmsu(folder) == 0
    assert mmsu(folder, "--steps", 2) == 2
    assert "steps was 4, now 2" in capsys.readouterr().err
    write_lines(folder / "mmsu.jsonl", [question(n, question="Other?") for n in range(6)])
    assert mmsu(folder) == 2
    assert "input was" in capsys.readouterr().err
    assert mmsu(folder, "--steps", 2, "--overwrite") == 0
    assert lines(folder / "out.jsonl")[0]["question"] == "Other?"


def test_other_audio_is_refused_wherever_it_lies(folder, echo, capsys, tmp_path_factory):
    """Of the same names and sizes; a copy of the same audio will do."""
    copy, noisy = (tmp_path_factory.mktemp(name) for name in ("copy", "noisy"))
    for n in range(3):
        shutil.copy(folder / f"clip{n}.wav", copy)
        content = bytearray((folder / f"clip{n}.wav").read_bytes())
        content[len(content) // 2] ^= 1 if n == 1 else 0
        (noisy / f"clip{n}.wav").write_bytes(content)
    (noisy / "clip2.wav").unlink()
    assert mmsu(folder, "--limit", 3) == 0
    assert mmsu(folder, "--limit", 4, "--audio_root", copy) == 0
    assert mmsu(folder, "--audio_root", noisy) == 2
    error = capsys.readouterr().err
    assert "out.jsonl holds answers to other audio: of 2 of 4 items, the first being item 2, " in error
    assert f"{noisy / 'clip1.wav'}. Pass the audio they were made of (--audio_root), choose another output" in error
    assert mmsu(folder, "--audio_root", noisy, "--overwrite", "--max_error_rate", 0.4) == 0
    shutil.copy(copy / "clip2.wav", noisy)  # only what had an error is due
    before = len(echo.batches)
    assert mmsu(folder, "--audio_root", noisy) == 0 and len(echo.batches) == before + 2


def test_speed_counts_what_was_answered_in_this_run(folder, echo, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("evaluation.runner.time.perf_counter", lambda: next(ticks) / 4)  # 0.25 s a reading
    assert mmsu(folder, "--limit", 4, "--batch_size", 2) == 0
    meta = json.loads((folder / "out.jsonl.meta.json").read_text())
    assert meta["forward_passes_per_item"] == 2
    assert meta["tokens_per_second"] == 24  # twelve tokens in two batches of a quarter of a second
    assert mmsu(folder, "--limit", 4) == 0  # nothing left to do: what was measured stays
    assert json.loads((folder / "out.jsonl.meta.json").read_text()) == meta


def test_presets_reach_the_model(folder, model, monkeypatch):
    monkeypatch.setattr(Parts, "load", lambda *_: model)
    flags = ["--steps", 16, "--block_length", 16, "--max_new_tokens", 16]
    passes = {}
    for preset in ("exact", "fast", "fastest"):
        assert mmsu(folder, *flags, "--preset", preset, output=f"{preset}.jsonl") == 0
        meta = json.loads((folder / f"{preset}.jsonl.meta.json").read_text())
        passes[preset] = meta["forward_passes_per_item"]
        assert meta["settings"]["threshold"] == PRESETS[preset].get("threshold")
    assert passes["exact"] == 16 and passes["fastest"] <= 16
    assert mmsu(folder, *flags, "--preset", "fast", output="exact.jsonl") == 2  # settings of another run


def test_compiling_is_asked_for_and_remembered(folder, echo, capsys):
    compiled = []
    echo.llm_model = SimpleNamespace(compile_blocks=lambda: compiled.append(True))
    assert mmsu(folder) == 0 and not compiled
    assert mmsu(folder, "--compile", output="compiled.jsonl") == 0 and compiled == [True]
    assert mmsu(folder, "--compile") == 2
    assert "compile was False, now True" in capsys.readouterr().err


def test_unusable_audio_costs_its_item_only(folder, echo, capsys):
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not a sound")
    bad = {1: "gone.wav", 3: "empty.wav", 4: "text.wav"}
    write_lines(folder / "mmsu.jsonl", [question(n, audio_path=bad.get(n, "clip0.wav")) for n in range(6)])
    assert mmsu(folder, "--batch_size", 2) == 1
    result = lines(folder / "out.jsonl")
    assert [line["id"] for line in result if "error" in line] == [1, 3, 4]
    assert [bool(line["response"]) for line in result] == [True, False, True, False, False, True]
    assert "gone.wav: no such audio file" in result[1]["error"] and "text.wav" in result[4]["error"]
    printed = capsys.readouterr()
    assert "3 of 6 items answered" in printed.out and printed.err.count("no answer: ") == 3
    shutil.copy(GOLDEN / "clip2.wav", folder / "gone.wav")  # mended: the next run answers it
    echo.batches.clear()
    assert mmsu(folder, "--max_error_rate", 0.4) == 0
    assert echo.batches == [1] and [line["id"] for line in lines(folder / "out.jsonl") if "error" in line] == [3, 4]


def test_files_of_every_kind(folder, echo):
    """The errors of a benchmark as it may be found on a disk, and formats that are none."""
    rng = np.random.default_rng(0)
    soundfile.write(folder / "stereo.mp3", rng.uniform(-0.5, 0.5, (44_100, 2)), 44_100)
    soundfile.write(folder / "long.flac", rng.uniform(-0.5, 0.5, 45 * 16_000), 16_000)
    whole = (folder / "clip1.wav").read_bytes()
    (folder / "cut_in_header.wav").write_bytes(whole[:40])
    (folder / "cut_in_sound.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("RIFF is how a WAV begins, but this is a text")
    names = ["missing", "empty", "cut_in_header", "cut_in_sound", "text", "silent", "clip0"]
    names = [*(f"{name}.wav" for name in names), "stereo.mp3", "long.flac"]
    write_lines(folder / "mmsu.jsonl", [question(n, audio_path=name) for n, name in enumerate(names)])
    assert mmsu(folder, "--batch_size", 3, "--max_error_rate", 0.67) == 0  # 6 of 9
    result = {line["audio_path"]: line for line in lines(folder / "out.jsonl")}
    reasons = {name: line["error"].partition(f"{name}: ")[2] for name, line in result.items() if "error" in line}
    assert reasons.pop("cut_in_header.wav").startswith("not readable as audio")
    assert reasons.pop("text.wav").startswith("not readable as audio")
    assert reasons.pop("cut_in_sound.wav").startswith("the file is cut: 1.15 s are left of the 2.30 s")
    assert reasons == {
        "missing.wav": "no such audio file",
        "empty.wav": "the file is empty (0 bytes)",
        "silent.wav": "is silent (every sample is zero)",
    }
    heard = {name: int(line["response"].split()[0]) for name, line in result.items() if line["response"]}
    assert heard.pop("stereo.mp3") == pytest.approx(16_000, abs=1600)  # MP3 pads
    assert heard == {"long.flac": 30 * 16_000, "clip0.wav": len(read_audio(folder / "clip0.wav"))}


def test_swapped_audio_is_always_anothers(folder, echo):
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(3)])
    assert mmsu(folder, "--swap_audio") == 0
    sizes = [len(read_audio(GOLDEN / f"clip{n}.wav")) for n in range(3)]
    heard = [sizes.index(int(line["response"].split()[0])) for line in lines(folder / "out.jsonl")]
    assert sorted(heard) == [0, 1, 2] and all(other != n for n, other in enumerate(heard))
    for count in (2, 3, 50):
        order = swap(count, seed=1)
        assert sorted(order) == list(range(count)) and all(other != n for n, other in enumerate(order))
    assert swap(50, seed=1) == swap(50, seed=1) != swap(50, seed=2)
    with pytest.raises(OptionError, match="at least two"):
        swap(1, seed=1)


def test_audio_root(folder, echo, tmp_path):
    (folder / "questions").mkdir()
    (folder / "mmsu.jsonl").rename(folder / "questions" / "mmsu.jsonl")
    flags = ["--input_jsonl", folder / "questions" / "mmsu.jsonl"]
    assert mmsu(folder, *flags, output="a.jsonl") == 1
    assert mmsu(folder, *flags, "--audio_root", folder, output="b.jsonl") == 0


# --- what stops before the model loads -----------------------------------------------------------------------------


def test_broken_lines_are_all_named(folder, no_model, capsys):
    with (folder / "mmsu.jsonl").open("a") as file:
        file.write("oops\n" + json.dumps(question(7, question=None)) + "\n")
    assert mmsu(folder) == 2
    error = capsys.readouterr().err
    assert "mmsu.jsonl line 7: not JSON" in error and "line 8: question must be str, found None" in error


def test_choices_that_are_none_are_named(folder, no_model, capsys):
    nothing = dict.fromkeys(CHOICES)
    write_lines(folder / "mmsu.jsonl", [question(0, choice_a=None), question(1, **nothing), question(2, choice_b=2)])
    assert mmsu(folder) == 2
    error = capsys.readouterr().err
    assert "line 1" not in error and "line 2: choice_a to choice_d must be texts, two at least" in error
    assert "line 3: choice_a to choice_d must be texts" in error
    items = [
        {"audio_id": "clip0.wav", "question": "?", "answer": "x", "choices": choices}
        for choices in (["x", None], [], [1])
    ]
    (folder / "mmau.json").write_text(json.dumps(items))
    flags = [*MODEL, "--input_json", str(folder / "mmau.json"), "--output_json", str(folder / "out.json")]
    assert inference_stage2_mmau.main(flags) == 2
    error = capsys.readouterr().err
    assert "found []" in error and "found [1]" in error and "None" not in error


def test_a_null_choice_of_mmau_is_left_out_of_the_prompt(folder):
    item = {"audio_id": "clip0.wav", "question": "Which?", "answer": "y", "choices": ["(A) x", None, "(C) y"]}
    (folder / "mmau.json").write_text(json.dumps([item]))
    [read] = read_items(MMAU, folder / "mmau.json", None)
    assert read.instruction == mmau_instruction("Which?", ["x", None, "y"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "3", "--block_length", "2"], "steps 3 cannot be shared evenly over 2 blocks"),
        (["--block_length", "3"], "block_length 3 does not divide max_new_tokens 4; nearest that do: 2 and 4"),
        (["--batch_size", "0"], "batch_size is 0; it must be at least 1"),
        (["--model_path", "/nowhere"], "the DIFFA checkpoint: no folder '/nowhere'"),
        (["--device", "cuda"], "--device cuda: PyTorch finds no GPU here"),
        (["--device", "gpu"], "--device gpu is unknown; say cpu, cuda or cuda:1"),
        (["--llm_path", "/nowhere"], "the LLM (LLaDA): no folder '/nowhere'"),
        (["--input_jsonl", "/nowhere.jsonl"], "/nowhere.jsonl: no such file. Pass MMSU's question file"),
    ],
)
def test_what_cannot_work_is_said_at_once(folder, no_model, capsys, monkeypatch, flags, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert mmsu(folder, *flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--setps", "--output_j", "--inp"])  # a misspelling, and two abbreviations
def test_unknown_flags_are_rejected(folder, no_model, capsys, flag):
    with pytest.raises(SystemExit):
        mmsu(folder, flag, "4")
    assert f"unrecognized arguments: {flag}" in capsys.readouterr().err


# --- the other benchmarks ------------------------------------------------------------------------------------------


def test_mmau_list_in_list_out(folder, echo):
    records = [
        {
            "id": str(n),
            "audio_id": f"./clip{n}.wav",
            "question": "Which?",
            "choices": ["(A) x", "(B) y"],
            "answer": "(A) x",
        }
        for n in range(3)
    ]
    (folder / "mmau.json").write_text(json.dumps(records))
    flags = [*MODEL, "--input_json_path", str(folder / "mmau.json"), "--output_json_path", str(folder / "out.json")]
    assert inference_stage2_mmau.main(flags) == 0
    result = json.loads((folder / "out.json").read_text())
    instruction = mmau_instruction("Which?", ["x", "y"])
    assert [item.pop("model_prediction").partition(" ")[2] for item in result] == [instruction] * 3
    assert result == records
    settings = json.loads((folder / "out.json.meta.json").read_text())["settings"]
    assert (settings["steps"], settings["block_length"], settings["max_new_tokens"]) == (16, 16, 16)


def test_voicebench_parquet_and_lines(folder, echo):
    data = folder / "voicebench"
    sounds = [{"bytes": (GOLDEN / f"clip{n}.wav").read_bytes(), "path": f"{n}.wav"} for n in range(3)]
    rows = [{"prompt": f"p{n}", "reference": "A", "audio": sound} for n, sound in enumerate(sounds)]
    (data / "openbookqa").mkdir(parents=True)
    for shard, part in enumerate((rows[:2], rows[2:])):
        table = pyarrow.Table.from_pylist(part)
        pyarrow.parquet.write_table(table, data / "openbookqa" / f"test-{shard:05d}-of-00002.parquet")
    write_lines(data / "sd-qa" / "usa.jsonl", [{"prompt": "q", "audio_path": "../../clip1.wav", "reference": "x"}])
    flags = [*MODEL, "--data_path", str(data), "--output_json", str(folder / "out"), "--data", "openbookqa", "sd-qa"]
    assert inference_stage2_voicebench.main(flags) == 0
    result = lines(folder / "out" / "diffa_upstream-openbookqa-test-audio.jsonl")
    lengths = [len(read_audio(GOLDEN / f"clip{n}.wav")) for n in range(3)]
    assert result == [
        {"prompt": f"p{n}", "reference": "A", "response": f"{lengths[n]} {VOICEBENCH_PROMPT}"} for n in range(3)
    ]
    (answer,) = lines(folder / "out" / "diffa_upstream-sd-qa-usa-audio.jsonl")
    assert answer["audio_path"] == "../../clip1.wav" and answer["response"].startswith(str(lengths[1]))


@pytest.fixture
def row_groups_read(monkeypatch):
    """The row groups whose audio was read, in order."""
    read, original = [], parquet_audio.read_row_group

    def read_row_group(parquet, number):
        read.append(number)
        return original(parquet, number)

    monkeypatch.setattr(parquet_audio, "read_row_group", read_row_group)
    parquet_audio.kept.clear()
    return read


def write_twice(folder, count, row_group_size):
    """The same questions as Parquet, whose path is returned, and as JSON Lines."""
    rows = [{"prompt": f"p{n}", "nested": [{"n": n}]} for n in range(count)]
    sounds = [(GOLDEN / f"clip{n % 3}.wav").read_bytes() for n in range(count)]
    table = pyarrow.Table.from_pylist(
        [{**row, "audio": {"bytes": s, "path": None}} for row, s in zip(rows, sounds, strict=True)]
    )
    files = folder / "bbh" / "test.parquet", folder / "lines" / "bbh" / "test.jsonl"
    files[0].parent.mkdir()
    # neither compressed nor made a dictionary of: each row's bytes lie in the file as they are
    pyarrow.parquet.write_table(table, files[0], row_group_size, compression="none", use_dictionary=False)
    write_lines(files[1], [{**row, "audio": str(GOLDEN / f"clip{n % 3}.wav")} for n, row in enumerate(rows)])
    return files[0]


def voicebench(data, output, *flags):
    paths = ["--data", "bbh", "--data_path", str(data), "--output_json", str(output)]
    return inference_stage2_voicebench.main([*MODEL, *paths, *flags])


@pytest.mark.parametrize("flags", [[], ["--swap_audio"], ["--limit", "5"]])
def test_parquet_is_read_as_it_is_needed_and_answered_like_lines(folder, echo, row_groups_read, flags):
    write_twice(folder, 10, row_group_size=4)
    assert voicebench(folder / "lines", folder / "lines.jsonl", *flags, "--batch_size", "3") == 0
    echo.batches.clear()
    assert voicebench(folder, folder / "p.jsonl", *flags, "--batch_size", "3") == 0
    assert (folder / "p.jsonl").read_text() == (folder / "lines.jsonl").read_text()
    assert echo.batches == ([3, 2] if "--limit" in flags else [3, 3, 3, 1])
    assert row_groups_read == ([0, 1] if "--limit" in flags else [0, 1, 2])  # each once, one after the other


def test_parquet_audio_is_not_read_for_what_is_answered(folder, echo, monkeypatch, row_groups_read):
    write_twice(folder, 10, row_group_size=2)
    answer = echo.answer

    def fail_at_third(*arguments):
        if len(echo.batches) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(echo, "answer", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        voicebench(folder, folder / "p.jsonl", "--batch_size", "2")
    assert row_groups_read == [0, 1, 2, 3]  # one ahead
    monkeypatch.setattr(echo, "answer", answer)
    parquet_audio.kept.clear()
    row_groups_read.clear()
    assert voicebench(folder, folder / "p.jsonl", "--batch_size", "2") == 0
    assert row_groups_read == [2, 3, 4] and len(lines(folder / "p.jsonl")) == 10
    row_groups_read.clear()
    assert voicebench(folder, folder / "p.jsonl") == 0 and row_groups_read == []


def test_damage_in_a_parquet_file_costs_the_items_it_hits(folder, echo, capsys):
    parquet = write_twice(folder, 9, row_group_size=3)
    content = bytearray(parquet.read_bytes())
    groups = [pyarrow.parquet.ParquetFile(parquet).metadata.row_group(n) for n in range(3)]
    names = [groups[0].column(n).path_in_schema for n in range(groups[0].num_columns)]
    pages = [group.column(names.index("audio.bytes")).data_page_offset for group in groups]
    content[pages[1] : pages[1] + 30] = b"\xff" * 30  # the header of the second row group's page
    sound = content.index(b"RIFF", pages[2])
    content[sound : sound + 40] = bytes(40)  # one clip's own header
    parquet.write_bytes(content)
    assert voicebench(folder, folder / "p.jsonl", "--max_error_rate", "0.5") == 0
    result = lines(folder / "p.jsonl")
    assert [n for n, line in enumerate(result) if "error" in line] == [3, 4, 5, 6]
    assert all(bool(line["response"]) != ("error" in line) for line in result)
    assert f"{parquet} row group 1, row 2: not readable (" in result[5]["error"]
    assert "audio of item 7: not readable as audio" in result[6]["error"]
    assert capsys.readouterr().err.count("no answer: ") == 4


def test_voicebench_one_file_and_what_is_missing(folder, echo, capsys):
    write_lines(folder / "one.jsonl", [{"audio_path": "clip0.wav"}])
    one = [*MODEL, "--data_path", str(folder / "one.jsonl"), "--output_json", str(folder / "o.jsonl")]
    assert inference_stage2_voicebench.main(one) == 0
    assert len(lines(folder / "o.jsonl")) == 1
    with pytest.raises(SystemExit):
        inference_stage2_voicebench.main([*one, "--data", "bbh", "mmsu"])
    assert "must be folders" in capsys.readouterr().err
    flags = [*MODEL, "--data_path", str(folder / "v"), "--output_json"]
    write_lines(folder / "v" / "sd-qa" / "test.jsonl", [{"prompt": "q", "audio": "../../clip0.wav"}])
    assert inference_stage2_voicebench.main([*flags, str(folder / "s"), "--data", "sd-qa"]) == 0
    assert [list(line) for line in lines(folder / "s" / "diffa_upstream-sd-qa-test-audio.jsonl")] == [
        ["prompt", "response"]
    ]
    file = write_lines(folder / "v" / "bbh" / "test.jsonl", [{"audio": "../clip0.wav"}, {"audio": 3}])
    file.write_text(file.read_text() + "\n{oops\n{}\n")
    assert inference_stage2_voicebench.main([*flags, str(folder / "s"), "--data", "bbh"]) == 2
    error = capsys.readouterr().err
    for message in (
        "2: no `audio` that names a file, found 3",
        "4: not JSON",
        "5: no `audio` that names a file, found N",
    ):
        assert f"bbh/test.jsonl line {message}" in error
    assert inference_stage2_voicebench.main([*flags, str(folder / "o"), "--split", "dev"]) == 2
    assert "holds neither dev-*.parquet nor dev.jsonl" in capsys.readouterr().err
    (folder / "v" / "alpacaeval").mkdir()
    (folder / "v" / "alpacaeval" / "test.parquet").write_text("no")
    assert inference_stage2_voicebench.main([*flags, str(folder / "p")]) == 2
    assert "is not a Parquet file" in capsys.readouterr().err


def test_voicebench_output_of_any_name_is_scored(folder, echo, capsys):
    write_lines(folder / "v" / "openbookqa" / "test.jsonl", [{"audio": "../../clip0.wav", "reference": "A"}])
    flags = [*MODEL, "--data_path", str(folder / "v" / "openbookqa" / "test.jsonl"), "--output_json"]
    (folder / "x.json").touch()
    assert inference_stage2_voicebench.main([*flags, str(folder / "x.json")]) == 0
    assert evaluate_voicebench([str(folder / "x.json")]) == 0
    assert inference_stage2_voicebench.main([*flags, str(folder / "out")]) == 0
    assert evaluate_voicebench([str(folder / "out")]) == 0
    assert capsys.readouterr().out.count("voicebench openbookqa (mcq): ") == 2
    meta = folder / "x.json.meta.json"
    told = json.loads(meta.read_text())
    assert (told.pop("subset"), told.pop("split")) == ("openbookqa", "test")
    meta.write_text(json.dumps(told))  # as an earlier version wrote it
    assert inference_stage2_voicebench.main([*flags, str(folder / "x.json")]) == 0
    assert "1 of 1 items answered before" in capsys.readouterr().out


def test_transcription_takes_the_stage_of_the_checkpoint(folder, echo):
    write_lines(folder / "m.jsonl", [{"audio_id": "a", "audio_filepath": "clip0.wav", "transcription": "x"}])
    flags = [*MODEL, "--input_json", str(folder / "m.jsonl"), "--output_jsonl"]
    assert inference_stage1_asr.main([*flags, str(folder / "a.jsonl")]) == 0
    assert inference_stage1_asr.main([*flags, str(folder / "b.jsonl"), "--stage", "2"]) == 0
    stages = [json.loads((folder / f"{name}.jsonl.meta.json").read_text())["settings"]["stage"] for name in "ab"]
    assert stages == [1, 2]  # the published checkpoint names no stage
    assert lines(folder / "a.jsonl")[0]["response"].endswith("What can you hear from the audio?")


def test_long_audio_is_cut_at_the_window(folder, echo, monkeypatch):
    monkeypatch.setattr(EchoModel, "feature_extractor", SimpleNamespace(n_samples=4000))
    assert mmsu(folder, "--limit", 1) == 0
    assert lines(folder / "out.jsonl")[0]["response"].split()[0] == "4000"


# --- the shell scripts ---------------------------------------------------------------------------------------------


def shell(script, folder, **settings):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for name in ("MODEL_PATH", "INPUT", "OUTPUT"):
        environment.pop(name, None)
    environment |= {"VIRTUAL_ENV": sys.prefix} | {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        ["bash", str(ROOT / script), "--limit", "2"], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("benchmark", ["mmsu", "mmau", "voicebench"])
def test_shell_script_says_what_to_set(benchmark, tmp_path):
    done = shell(f"run_{benchmark}_inference.sh", tmp_path)
    assert done.returncode == 2 and "set MODEL_PATH to the DIFFA checkpoint" in done.stderr


@pytest.mark.slow
def test_shell_scripts_answer_and_score(folder):
    paths = {name: GOLDEN / part for name, part in
             (("MODEL_PATH", "diffa_upstream"), ("LLM_PATH", "llada"), ("WHISPER_PATH", "whisper"))}  # fmt: skip
    done = shell("run_mmsu_inference.sh", folder, **paths, INPUT=folder / "mmsu.jsonl", OUTPUT=folder / "mmsu.out")
    assert done.returncode == 0, done.stderr
    assert "official" in done.stdout and len(lines(folder / "mmsu.out")) == 2
    assert json.loads((folder / "mmsu.out.scores.json").read_text())["levels"]["total"]["total"]["n"] == 2
    write_lines(folder / "v" / "advbench" / "test.jsonl", [{"audio_path": "../../clip0.wav"}] * 2)
    paths |= {"INPUT": folder / "v", "OUTPUT": folder / "o", "DATA": "advbench"}
    done = shell("run_voicebench_inference.sh", folder, **paths)
    assert done.returncode == 0, done.stderr
    assert "voicebench advbench (harm)" in done.stdout
    (scores,) = (folder / "o").glob("*.scores.json")
    assert json.loads(scores.read_text())["levels"]["total"]["total"]["n"] == 2

"""How items are answered: order, batches, ranks, options, audio that cannot be used."""

import json
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import inference_stage1_asr
import inference_stage2_mmau
import inference_stage2_voicebench
from evaluation.journal import append_lines
from evaluation.runner import Parts
from src import loading
from src.audio import read_audio
from src.generation_options import PRESETS
from src.llm_generate import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from src.processes import Ranks
from src.prompts import mmsu_instruction
from tests.evaluation.small_runs import CHOICES, GOLDEN, MODEL, ROOT, EchoModel, lines, mmsu, question, write_lines


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
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(9)])
    for size in (1, 3, 8):
        assert mmsu(folder, "--batch_size", size, output=f"{size}.jsonl") == 0
    single = (folder / "1.jsonl").read_text()
    assert len(set(line["response"] for line in lines(folder / "1.jsonl"))) > 3
    assert single == (folder / "3.jsonl").read_text() == (folder / "8.jsonl").read_text()


def test_a_clip_that_several_items_ask_about_is_encoded_once(folder, model, monkeypatch):
    """In a batch, and its answers are those that each item gets alone."""
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(9)])  # three clips
    encoded, encode = [], DIFFAModel.encode_audio
    monkeypatch.setattr(
        DIFFAModel, "encode_audio", lambda model, x, mask: encoded.append(len(x)) or encode(model, x, mask)
    )
    assert mmsu(folder, "--batch_size", 9) == 0 and encoded == [3]
    assert mmsu(folder, "--batch_size", 1, output="1.jsonl") == 0 and encoded == [3] + 9 * [1]
    assert (folder / "out.jsonl").read_text() == (folder / "1.jsonl").read_text()


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
    parts = ["--llm_path", str(loading.LLM), "--whisper_path", str(loading.WHISPER), "--dtype", "float32", *flags]
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
    monkeypatch.setattr(Parts, "load", lambda *_, **__: built_in)
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


def test_items_keep_their_order_fields_and_audio(folder, echo):
    assert mmsu(folder, "--batch_size", 4) == 0
    sizes = [len(read_audio(GOLDEN / f"clip{n}.wav")) for n in range(3)]
    for n, line in enumerate(lines(folder / "out.jsonl")):
        assert line.pop("response") == f"{sizes[n % 3]} {mmsu_instruction(f'Is it {n}?', ['one', 'two', 'three'])}"
        assert line == question(n)
    assert echo.batches == [4, 2]


def test_speed_counts_what_was_answered_in_this_run(folder, echo, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("evaluation.runner.time.perf_counter", lambda: next(ticks) / 4)  # 0.25 s a reading
    assert mmsu(folder, "--limit", 4, "--batch_size", 2) == 0
    meta = json.loads((folder / "out.jsonl.meta.json").read_text())
    assert meta["forward_passes_per_item"] == 2
    assert meta["tokens_per_second"] == 24  # twelve tokens in two batches of a quarter of a second
    assert (meta["tokens_per_item"], meta["fixed_tokens_per_item"]) == (3, 4)
    assert mmsu(folder, "--limit", 4) == 0  # nothing left to do: what was measured stays
    assert json.loads((folder / "out.jsonl.meta.json").read_text()) == meta


def test_answers_beyond_the_limit_are_not_lost(folder, echo, capsys):
    bad = {1: "gone.wav"}
    write_lines(folder / "mmsu.jsonl", [question(n, audio_path=bad.get(n, "clip0.wav")) for n in range(6)])
    assert mmsu(folder, "--max_error_rate", 1) == 0
    before = (folder / "out.jsonl").read_bytes()
    assert mmsu(folder, "--limit", 1) == 0  # nothing is missing there
    assert mmsu(folder, "--limit", 3) == 2
    assert "has answers to 3 item(s) beyond --limit 3, which an output of 3 would lose" in capsys.readouterr().err
    assert (folder / "out.jsonl").read_bytes() == before
    (folder / "out.jsonl").unlink()
    journal = {"settings": json.loads((folder / "out.jsonl.meta.json").read_text())["settings"]}
    kept = [{"index": index, "text": "x", "error": None, "audio": None} for index in (0, 5)]
    write_lines(folder / "out.jsonl.partial", [journal, *kept])  # as a killed run leaves it
    assert mmsu(folder, "--limit", 2) == 2 and len(lines(folder / "out.jsonl.partial")) == 3
    assert "has answers to 1 item(s) beyond --limit 2" in capsys.readouterr().err
    assert mmsu(folder, "--limit", 2, "--overwrite", "--max_error_rate", 1) == 0
    assert len(lines(folder / "out.jsonl")) == 2


def test_a_run_that_began_while_the_model_loaded_is_not_mixed_with(folder, echo, monkeypatch, capsys):
    def load(*_, **__):
        append_lines(folder / "out.jsonl.partial", {"steps": 1}, [])  # another process, with other settings
        return echo

    monkeypatch.setattr(Parts, "load", load)
    assert mmsu(folder) == 2
    assert "steps was 1, now 4" in capsys.readouterr().err
    assert lines(folder / "out.jsonl.partial") == [{"settings": {"steps": 1}}] and not (folder / "out.jsonl").exists()


def test_presets_reach_the_model(folder, model, monkeypatch):
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    flags = ["--steps", 16, "--block_length", 16, "--max_new_tokens", 16]
    passes = {}
    for preset in ("exact", "fast", "fastest"):
        assert mmsu(folder, *flags, "--preset", preset, output=f"{preset}.jsonl") == 0
        meta = json.loads((folder / f"{preset}.jsonl.meta.json").read_text())
        passes[preset] = meta["forward_passes_per_item"]
        assert meta["settings"]["threshold"] == PRESETS[preset].get("threshold")
    assert passes["exact"] == 16 and passes["fastest"] <= 16
    assert mmsu(folder, *flags, "--preset", "fast", output="exact.jsonl") == 2  # settings of another run


def test_each_family_is_asked_as_published(folder, echo, monkeypatch):
    for family, length in (("diffa", 4), ("diffa2", 16)):
        monkeypatch.setattr("evaluation.runner.read_family", lambda folder, family=family: family)
        assert mmsu(folder, output=f"{family}.jsonl") == 0
        meta = json.loads((folder / f"{family}.jsonl.meta.json").read_text())
        for told in (meta["settings"], meta["options"]):
            assert (told["steps"], told["block_length"], told["max_new_tokens"]) == (length, length, length)


def test_compiling_is_asked_for_and_remembered(folder, echo, capsys):
    compiled = []
    echo.llm_model = SimpleNamespace(compile_blocks=lambda: compiled.append(True))
    assert mmsu(folder) == 0 and not compiled
    assert mmsu(folder, "--compile", output="compiled.jsonl") == 0 and compiled == [True]
    assert mmsu(folder, "--compile") == 2
    assert "compile was False, now True" in capsys.readouterr().err


def test_rounded_weights_are_remembered(folder, echo, capsys):
    assert mmsu(folder, "--quantize", "int8") == 0
    assert json.loads((folder / "out.jsonl.meta.json").read_text())["settings"]["quantize"] == "int8"
    for others, now in ((("--quantize", "int4"), "'int4'"), ((), "None")):
        assert mmsu(folder, *others) == 2
        assert f"quantize was 'int8', now {now}" in capsys.readouterr().err


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


@pytest.mark.parametrize(("rate", "status"), [(0.25, 0), (0.24, 1), (0, 1), (1, 0)])
def test_as_many_errors_as_the_rate_allows_are_no_failure(folder, echo, rate, status):
    """One clip of four is missing."""
    write_lines(
        folder / "mmsu.jsonl", [question(n, audio_path="gone.wav" if n == 1 else "clip0.wav") for n in range(4)]
    )
    assert mmsu(folder, "--max_error_rate", rate) == status


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


def test_long_audio_is_cut_at_the_window(folder, echo, monkeypatch):
    monkeypatch.setattr(EchoModel.feature_extractor, "n_samples", 4000)
    assert mmsu(folder, "--limit", 1) == 0
    assert lines(folder / "out.jsonl")[0]["response"].split()[0] == "4000"


def test_transcription_takes_the_stage_of_the_checkpoint(folder, echo):
    write_lines(folder / "m.jsonl", [{"audio_id": "a", "audio_filepath": "clip0.wav", "transcription": "x"}])
    flags = [*MODEL, "--input_json", str(folder / "m.jsonl"), "--output_jsonl"]
    assert inference_stage1_asr.main([*flags, str(folder / "a.jsonl")]) == 0
    assert inference_stage1_asr.main([*flags, str(folder / "b.jsonl"), "--stage", "2"]) == 0
    stages = [json.loads((folder / f"{name}.jsonl.meta.json").read_text())["settings"]["stage"] for name in "ab"]
    assert stages == [1, 2]  # the published checkpoint names no stage
    assert lines(folder / "a.jsonl")[0]["response"].endswith("What can you hear from the audio?")

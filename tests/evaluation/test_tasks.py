import json
from pathlib import Path

import pytest

import inference_stage1_asr
import inference_stage2_mmar
import inference_stage2_mmau
import inference_stage2_mmsu
import inference_stage2_voicebench
from evaluation.benchmarks import AIRBENCH, ASR, MMAU, MMSU
from evaluation.result_files import BenchmarkFileError
from evaluation.tasks import BenchmarkItem, benchmark_parser, find_audio, read_items, settings_text, swap, with_settings
from src.configuration_DIFFA import ROOT
from src.inference_flags import OptionError

SCRIPTS = [
    inference_stage1_asr, inference_stage2_mmar, inference_stage2_mmau, inference_stage2_mmsu,
    inference_stage2_voicebench,
]  # fmt: skip
RECORD = {"id": 1, "audio_path": "a.wav", "question": "Which?", "choice_a": "x", "choice_b": "y", "answer_gt": "x"}


def test_items_hold_record_prompt_and_audio(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps(RECORD) + "\n")
    assert read_items(MMSU, tmp_path / "m.jsonl", None) == [
        BenchmarkItem(RECORD, MMSU.prompt(RECORD), tmp_path / "a.wav")
    ]
    with pytest.raises(BenchmarkFileError, match=r"m\.jsonl line 1: choices must be a list"):
        read_items(MMAU, tmp_path / "m.jsonl", None)


def test_audio_lies_beside_the_file_or_in_the_folder_that_is_named():
    assert find_audio("b/a.wav", Path("data/m.jsonl"), None) == Path("data/b/a.wav")
    assert find_audio("b/a.wav", Path("data/m.jsonl"), Path("/sounds")) == Path("/sounds/b/a.wav")
    assert find_audio("/a.wav", Path("data/m.jsonl"), Path("/sounds")) == Path("/a.wav")


@pytest.mark.parametrize("count", [2, 3, 50])
def test_swapping_leaves_nothing_in_its_place(count):
    order = swap(count, seed=1)
    assert sorted(order) == list(range(count)) and all(other != n for n, other in enumerate(order))


def test_swapping_is_seeded_and_needs_two():
    assert swap(50, seed=1) == swap(50, seed=1) != swap(50, seed=2)
    with pytest.raises(OptionError, match="at least two"):
        swap(1, seed=1)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
@pytest.mark.parametrize("suffix", ["", "_json", "_jsonl", "_json_path"])
def test_every_name_that_input_and_output_had_still_works(script, suffix, monkeypatch):
    seen = []
    monkeypatch.setattr(script, "run", lambda args, *_: seen.append(args) or 0)
    assert script.main(["--model_path", "m", f"--input{suffix}", "questions", f"--output{suffix}", "answers"]) == 0
    assert (seen[0].input, seen[0].output) == (Path("questions"), Path("answers"))


def test_voicebench_has_two_names_more(monkeypatch):
    seen = []
    monkeypatch.setattr(inference_stage2_voicebench, "run", lambda args, *_: seen.append(args) or 0)
    inference_stage2_voicebench.main(["--model_path", "m", "--data_path", "d", "--output_dir", "o"])
    assert (seen[0].input, seen[0].output) == (Path("d"), Path("o"))


def test_the_settings_are_the_benchmarks_for_the_models_family():
    args = benchmark_parser(MMSU, "").parse_args(["--model_path", "m", "--output", "o", "--steps", "8"])
    for family, settings in (("diffa", (8, 4, 4)), ("diffa2", (8, 16, 16))):
        filled = with_settings(args, MMSU, family)
        assert (filled.steps, filled.block_length, filled.max_new_tokens) == settings
    assert "    DIFFA: --steps 4 --block_length 4 --max_new_tokens 4\n    DIFFA-2: --steps 16" in settings_text(MMSU)
    assert settings_text(MMSU) in benchmark_parser(MMSU, "").format_help()


def test_the_usual_place_of_the_file_is_the_default(capsys):
    args = benchmark_parser(MMSU, "").parse_args(["--model_path", "m", "--output", "o"])
    assert args.input == ROOT / "data" / "mmsu" / "mmsu.jsonl"
    with pytest.raises(SystemExit):
        benchmark_parser(ASR, "").parse_args(["--model_path", "m", "--output", "o"])
    assert "the following arguments are required: --input" in capsys.readouterr().err


def test_help_says_whose_settings_are_the_defaults():
    said = {benchmark.name: settings_text(benchmark).splitlines()[0] for benchmark in (MMSU, AIRBENCH)}
    assert said["mmsu"] == "Published settings, the defaults where nothing else is said:"
    assert said["airbench"] == "Default settings, MMSU's since DIFFA publishes none:"

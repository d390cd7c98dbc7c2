import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.benchmarks import ASR, BENCHMARKS, LEADERBOARD, MMAR, MMAU, MMSU, SUBSETS, VOICEBENCH
from evaluation.scoreboard import PUBLISHED
from src.generation_options import GenerationOptions
from src.prompts import ASR_PROMPT, VOICEBENCH_PROMPT, mmau_instruction, mmsu_instruction
from voicebench.evaluate import SCORERS

ROOT = Path(__file__).resolve().parents[2]
CHOICES = [benchmark for benchmark in BENCHMARKS.values() if benchmark.official]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_scripts_and_settings_of_both_families(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name and (ROOT / name / "evaluate.py").exists()
    assert len(list(ROOT.glob(f"inference_stage?_{name}.py"))) == 1
    assert set(benchmark.settings) == {"diffa", "diffa2"}
    for settings in benchmark.settings.values():
        GenerationOptions(settings.steps, settings.block_length, settings.max_new_tokens)  # they fit together
    assert benchmark.answer_fields and benchmark.source


def test_the_settings_are_the_published_ones():
    assert tuple(vars(MMSU.settings["diffa"]).values()) == (4, 4, 4)
    for benchmark in (MMAU, MMAR, VOICEBENCH):
        assert tuple(vars(benchmark.settings["diffa"]).values()) == (16, 16, 16)
    for benchmark in (MMSU, MMAU, MMAR, VOICEBENCH):
        assert tuple(vars(benchmark.settings["diffa2"]).values()) == (16, 16, 16)


@pytest.mark.parametrize("benchmark", CHOICES, ids=lambda benchmark: benchmark.name)
def test_multiple_choice_benchmarks_say_how_they_are_scored(benchmark):
    assert benchmark.answer in benchmark.required or benchmark.withheld
    assert benchmark.first_level in benchmark.levels


def test_prompts_are_the_protocols():
    record = {"question": "Which?", "choice_a": "x", "choice_b": None, "choice_c": "z"}
    assert MMSU.prompt(record) == mmsu_instruction("Which?", ["x", None, "z", None])
    record = {"question": "Which?", "choices": ["(A) x", None, "(C) z"]}
    assert MMAU.prompt(record) == mmau_instruction("Which?", ["x", None, "z"])
    assert MMAR.prompt(record) == MMAU.prompt(record)
    assert (VOICEBENCH.prompt({}), ASR.prompt({})) == (VOICEBENCH_PROMPT, ASR_PROMPT)


def test_records_are_told_apart():
    assert MMSU.key({"id": 3}) == "3" and MMAU.key({"id": "a", "audio_id": "b"}) == "a"
    assert MMAR.key({"id": "a", "audio_path": "b"}) == "a"
    assert MMAU.key({"audio_id": "a.wav", "question": "Which?"}) == "a.wav Which?"
    assert VOICEBENCH.key({"id": None, "key": 7}) == "7"
    assert ASR.key({"audio_filepath": "a.wav"}) == "a.wav"
    for benchmark in BENCHMARKS.values():
        with pytest.raises(KeyError):
            benchmark.key({})


def test_voicebench_has_nine_subsets_that_count_and_a_rule_for_each():
    assert len(LEADERBOARD) == 9 and "alpacaeval_full" not in LEADERBOARD
    assert {subset.rule for subset in SUBSETS.values()} == set(SCORERS)


def test_published_scores_are_of_benchmarks_of_the_table():
    assert {row["benchmark"] for row in json.loads(PUBLISHED.read_text())} <= set(BENCHMARKS)


def test_scorers_start_without_pytorch():
    code = (
        "import mmsu.evaluate, mmau.evaluate, mmar.evaluate, voicebench.evaluate, evaluation.report, sys; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

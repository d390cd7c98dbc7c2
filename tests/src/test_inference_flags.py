import argparse

import pytest

from src.generation_options import PRESETS, GenerationOptions
from src.inference_flags import OptionError, device_of, make_parser, options_of
from src.prompts import SYSTEM_PROMPTS


def options(*flags: str) -> GenerationOptions:
    parser = make_parser("")
    parser.set_defaults(steps=16, block_length=16, max_new_tokens=16)
    return options_of(parser.parse_args(["--model_path", "x", *flags]))


def test_without_flags_decoding_is_exact():
    assert options() == options("--preset", "exact") == GenerationOptions(seed=0)


@pytest.mark.parametrize("preset", ["fast", "fastest", "fast_dllm"])
def test_a_preset_brings_its_settings(preset):
    assert options("--preset", preset, "--max_new_tokens", "32") == GenerationOptions(
        max_new_tokens=32, seed=0, **PRESETS[preset]
    )


def test_the_published_scripts_name_of_the_fast_mode():
    published = options("--accelerate", "fast_dllm", "--use_lora", "True")
    assert published == options("--preset", "fast_dllm") and (published.factor, published.last_rank) == (1.0, True)
    assert options("--accelerate", "fast_dllm", "--no-last_rank", "--no-stop_in_block") == GenerationOptions(
        factor=1.0, stop_at_eos=True, seed=0
    )


@pytest.mark.parametrize(
    ("flags", "value"),
    [([], None), (["--use_lora"], True), (["--use_lora", "True"], True), (["--use_lora", "false"], False)],
)
def test_lora_may_be_insisted_on_as_published_scripts_write_it(flags, value, capsys):
    parser = make_parser("")
    assert parser.parse_args(["--model_path", "x", *flags]).use_lora is value
    with pytest.raises(SystemExit):
        parser.parse_args(["--model_path", "x", "--use_lora", "maybe"])
    assert "'maybe' is neither True nor False" in capsys.readouterr().err


def test_a_system_prompt_by_name_or_as_text(capsys):
    def parse(*flags: str) -> str:
        return make_parser("").parse_args(["--model_path", "x", *flags]).system_prompt

    assert parse() == parse("--system_prompt", "short") == SYSTEM_PROMPTS["short"]
    assert parse("--system_prompt", "long") == SYSTEM_PROMPTS["long"]
    assert parse("--system_prompt", "Be brief.") == "Be brief."
    with pytest.raises(SystemExit):
        parse("--system_prompt", "see <audio>")
    assert "a system prompt must not hold '<audio>'" in capsys.readouterr().err


def test_flags_win_over_the_preset():
    flags = ["--cache", "prefix", "--refresh_interval", "4", "--no-stop_at_eos", "--factor", "1.5"]
    assert options("--preset", "fast", *flags) == GenerationOptions(
        cache="prefix", refresh_interval=4, factor=1.5, seed=0
    )
    assert options("--stop_at_eos").stop_at_eos and not options().stop_at_eos
    assert options("--preset", "fastest", "--cache", "none").cache == "none"
    assert options("--preset", "fast", "--threshold", "0.6").threshold == 0.6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--threshold 0.9 --factor 1", "exclude each other"),
        ("--preset fast --remasking random", "needs remasking='low_confidence'"),
        ("--refresh_interval 2", "needs cache='prefix' or 'dual'"),
        ("--limit 0", "limit is 0; it must be at least 1"),
    ],
)
def test_flags_that_do_not_fit_together(flags, message):
    with pytest.raises(OptionError, match=message):
        options(*flags.split())


@pytest.mark.parametrize("flags", [["--preset", "quick"], ["--cache", "both"]])
def test_unknown_names_are_refused_with_the_known_ones(flags, capsys):
    with pytest.raises(SystemExit):
        options(*flags)
    assert "choose from" in capsys.readouterr().err


def test_of_several_gpus_each_process_takes_its_own_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    devices = [device_of(argparse.Namespace(device=name)) for name in (None, "cuda", "cuda:1", "cpu")]
    assert [str(device) for device in devices] == ["cuda:3", "cuda:3", "cuda:1", "cpu"]

from pathlib import Path

import pytest
from transformers import HfArgumentParser

from src import training_arguments
from src.precision import Precision
from src.prompts import SYSTEM_PROMPT, SYSTEM_PROMPTS
from src.training_arguments import (
    DataArguments,
    DIFFATrainingArguments,
    ModelArguments,
    SettingsError,
)
from tests.conftest import GOLDEN

STAGE_2 = ["--stage", "2", "--stage1_checkpoint", "x"]


def parsed(tmp_path: Path, *flags: str) -> tuple:
    required = ["--stage", "1", "--train_dataset_path", "x.json", "--output_dir", str(tmp_path), "--use_cpu"]
    parser = HfArgumentParser((ModelArguments, DataArguments, DIFFATrainingArguments))
    return parser.parse_args_into_dataclasses([*required, *flags])


def frozen_flags(folder: Path, *flags: str) -> list[str]:
    paths = {"--llm_path": GOLDEN / "llada", "--whisper_path": GOLDEN / "whisper"}
    paths["--train_dataset_path"] = folder / "manifest.json"
    return [str(word) for pair in paths.items() for word in pair] + list(flags)


def test_a_system_prompt_is_kept_as_its_text(tmp_path):
    for flags, text in [((), SYSTEM_PROMPT), (("--system_prompt", "long"), SYSTEM_PROMPTS["long"])]:
        assert parsed(tmp_path, *flags)[1].system_prompt == text
    with pytest.raises(ValueError, match=r"a system prompt must not hold '<audio>', found 'Hear <audio>!'"):
        parsed(tmp_path, "--system_prompt", "Hear <audio>!")


@pytest.mark.parametrize(
    ("flags", "bf16", "reason"),
    [
        ([], True, "told by the stand-in"),
        (["--bf16", "auto"], True, "told by the stand-in"),
        (["--bf16", "False"], False, "as asked for"),
        (["--bf16", "True"], True, "as asked for"),
        (["--bf16"], True, "as asked for"),
        (["--fp16", "True"], False, "as asked for"),
    ],
)
def test_precision_is_the_machines_unless_told(tmp_path, monkeypatch, flags, bf16, reason):
    def choose(device, asked):
        assert device.type == "cpu"
        return Precision("bfloat16", "told by the stand-in") if asked == "auto" else Precision(asked, "as asked for")

    monkeypatch.setattr(training_arguments, "choose_precision", choose)
    training_args = parsed(tmp_path, *flags)[2]
    assert training_args.bf16 is bf16 and training_args.precision.reason == reason
    assert training_args.to_dict()["bf16"] is bf16


def test_other_words_for_a_precision_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="--bf16 is 'half'; expected True, False or auto"):
        parsed(tmp_path, "--bf16", "half")

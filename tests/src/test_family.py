import shutil

import pytest

from src.checkpoint import CheckpointError
from src.configuration_DIFFA import DIFFAConfig
from src.family import describe, family_of, read_family
from src.lora import read_lora
from tests.conftest import GOLDEN, GOLDEN2


def test_published_checkpoints_tell_their_family():
    """Stage 1 by its encoder, stages 3 and 4 by LoRA as well."""
    assert read_family(GOLDEN / "diffa_upstream") == "diffa"
    assert [read_family(GOLDEN2 / f"diffa2_stage{stage}") for stage in (1, 3, 4)] == ["diffa2"] * 3
    assert family_of(DIFFAConfig(whisper_config={"num_mel_bins": 80}), with_lora=True) == "diffa2"
    assert family_of(DIFFAConfig(), with_lora=False) == "diffa"


def test_what_a_checkpoint_says_itself_counts_first():
    config = DIFFAConfig(whisper_config={"num_mel_bins": 128}, family="diffa")
    assert family_of(config, with_lora=False) == "diffa"
    with pytest.raises(CheckpointError, match="family is 'diffa3'; expected one of diffa, diffa2"):
        family_of(DIFFAConfig(family="diffa3"), with_lora=False)


def test_a_family_is_told_without_reading_weights(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN2 / "diffa2_stage3", tmp_path / "copy")
    monkeypatch.setattr("src.lora.pair", lambda *_: pytest.fail("factors were read"))
    assert read_family(tmp_path / "copy") == "diffa2"


def test_what_people_are_told():
    config = DIFFAConfig(family="diffa2")
    assert describe(DIFFAConfig(family="diffa"), None) == "a DIFFA checkpoint"
    expected = "a DIFFA-2 checkpoint, LoRA of rank 8 merged into 15 weights of the LLM"
    assert describe(config, read_lora(GOLDEN2 / "diffa2_stage4")) == expected

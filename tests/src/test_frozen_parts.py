import json
import shutil

import pytest

from src.checkpoint import CheckpointError, read_json
from src.configuration_DIFFA import DIFFAConfig
from src.frozen_parts import check_frozen_parts, encoder_class, llm_class
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from tests.conftest import GOLDEN


def test_the_class_follows_from_the_config(tmp_path):
    assert llm_class(GOLDEN / "llada") is LLaDAModel and encoder_class(GOLDEN / "whisper") is WhisperAudioEncoder
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 64}))  # names no type
    assert llm_class(tmp_path) is LLaDAModel and encoder_class(tmp_path) is WhisperAudioEncoder
    with pytest.raises(
        CheckpointError, match=r"whisper/config\.json: model_type is 'whisper'; expected an LLM of type l"
    ):
        llm_class(GOLDEN / "whisper")
    with pytest.raises(CheckpointError, match=r"model_type is 'llada'; expected an encoder of type whisper"):
        encoder_class(GOLDEN / "llada")


def test_frozen_parts_of_another_size_are_refused_before_they_are_loaded(tmp_path):
    for part in ("llada", "whisper"):
        (tmp_path / part).mkdir()
        shutil.copy(GOLDEN / part / "config.json", tmp_path / part)
    parts = tmp_path / "llada", tmp_path / "whisper"
    saved = DIFFAConfig.from_dict(read_json(GOLDEN / "diffa_upstream" / "config.json"))
    check_frozen_parts(saved, *parts)
    check_frozen_parts(DIFFAConfig(), *parts)  # it remembers nothing of them
    for config, size, message in (
        (saved.llm_config, "d_model", r"LLM with d_model 1234, but .*llada has 64; pass .* with --llm_path"),
        *(
            (saved.whisper_config, name, rf"encoder with {name} 1234, but .* has \d+; .*--whisper_path")
            for name in ("d_model", "encoder_layers", "num_mel_bins")
        ),
    ):
        fitting, config[size] = config[size], 1234
        with pytest.raises(CheckpointError, match=message):
            check_frozen_parts(saved, *parts)
        config[size] = fitting

import json

import pytest

from src.configuration_DIFFA import DIFFAConfig, LLaDAConfig
from tests.conftest import GOLDEN

LLADA = json.loads((GOLDEN / "llada" / "config.json").read_text())
# The published figures of LLaDA-8B-Instruct.
LLADA_8B = {
    "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288, "vocab_size": 126464,
    "embedding_size": 126464, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "max_sequence_length": 4096,
    "weight_tying": False, "mask_token_id": 126336, "eos_token_id": 126081, "pad_token_id": 126081,
}  # fmt: skip


def test_llada_8b_fields_are_read():
    config = LLaDAConfig.from_dict(LLADA_8B)
    assert (config.head_dim, config.embedding_size, config.mask_token_id) == (128, 126464, 126336)


def test_null_fields_follow_the_public_defaults():
    config = LLaDAConfig.from_dict(LLADA | {"n_kv_heads": None, "embedding_size": None, "mlp_hidden_size": None})
    assert (config.n_kv_heads, config.embedding_size, config.mlp_hidden_size) == (4, 448, 4 * 64)


@pytest.mark.parametrize(("name", "value"), [("alibi", True), ("include_bias", True), ("block_type", "sequential")])
def test_other_architectures_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; only"):
        LLaDAConfig.from_dict(LLADA | {name: value})


@pytest.mark.parametrize(
    "changes", [{"n_heads": 0}, {"n_kv_heads": 3}, {"n_heads": 64, "n_kv_heads": 64}, {"d_model": 62}]
)
def test_heads_that_cannot_be_are_refused(changes):
    message = "; expected heads of an even width, and as many for each of keys and values"
    with pytest.raises(ValueError, match=message):
        LLaDAConfig.from_dict(LLADA | changes)


def test_missing_fields_are_named():
    fields = {key: value for key, value in LLADA.items() if key not in ("rope_theta", "mask_token_id")}
    with pytest.raises(ValueError, match="lacks rope_theta, mask_token_id"):
        LLaDAConfig.from_dict(fields)


def test_published_config_keeps_what_nothing_reads():
    published = json.loads((GOLDEN / "diffa_upstream" / "config.json").read_text())
    config = DIFFAConfig.from_dict(published)
    assert config.stage is None and config.prompt_size == 64
    kept = config.to_dict()
    assert (kept["conv_kernel_sizes"], kept["adapter_inner_dim"]) == ("5,5,5", 512)
    assert config.llm_config["d_model"] == 64 and config.whisper_config["encoder_layers"] == 12

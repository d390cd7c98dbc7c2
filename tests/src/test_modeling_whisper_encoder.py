import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from src.audio import log_mel
from src.checkpoint import CheckpointError
from src.modeling_whisper_encoder import WhisperAudioEncoder
from tests.conftest import GOLDEN


def test_encoder_matches_the_published_code(model, golden, clips):
    hidden_states, lengths = model.whisper_model(*log_mel(model.feature_extractor, clips))
    assert len(hidden_states) == 13 and hidden_states[0].shape == (3, 1500, 48)
    for index, length in enumerate(lengths):
        assert length == golden[f"clip{index}.encoder_length"]
        expected = golden[f"clip{index}.encoder_last"][0]
        torch.testing.assert_close(hidden_states[-1][index, :length], expected, rtol=1e-4, atol=1e-4)


def test_states_that_nobody_reads_are_left_out(model, clips):
    """The last one goes as far as the longest clip."""
    features = log_mel(model.feature_extractor, clips)
    everything, lengths = model.whisper_model(*features)
    some, _ = model.whisper_model(*features, states=[2, 5])
    assert [index for index, states in enumerate(some) if states is not None] == [2, 5, 12]
    torch.testing.assert_close(some[2], everything[2])
    torch.testing.assert_close(some[12], everything[12][:, : lengths.max()])
    last_too, _ = model.whisper_model(*features, states=[12])
    torch.testing.assert_close(last_too[12], everything[12])


def test_frames_are_halved_rounding_up():
    assert WhisperAudioEncoder.num_frames(torch.tensor([1, 2, 3, 80, 3000])).tolist() == [1, 1, 2, 40, 1500]


def test_no_gradient_is_kept(model, clips):
    model.requires_grad_(True)
    hidden_states, _ = model.whisper_model(*log_mel(model.feature_extractor, clips[:1]))
    assert not any(h.requires_grad for h in hidden_states)


@pytest.mark.parametrize("prefix", ["model.encoder.", "encoder.", ""])
def test_every_public_naming_loads(tmp_path, model, prefix):
    folder = tmp_path / "whisper"
    shutil.copytree(GOLDEN / "whisper", folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    encoder = {
        key.replace("model.encoder.", prefix): tensor.clone()
        for key, tensor in state.items()
        if key.startswith("model.encoder.")
    }
    save_file(encoder, folder / "model.safetensors")
    loaded = WhisperAudioEncoder.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in model.whisper_model.state_dict().items())


def test_missing_encoder_weights_are_named(tmp_path):
    folder = tmp_path / "whisper"
    shutil.copytree(GOLDEN / "whisper", folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del state["model.encoder.layers.3.fc1.bias"]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing: layers\.3\.fc1\.bias"):
        WhisperAudioEncoder.from_pretrained(folder)


def test_another_activation_is_refused(tmp_path):
    config = json.loads((GOLDEN / "whisper" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    with pytest.raises(CheckpointError, match="activation_function is 'relu'; use an encoder with 'gelu'"):
        WhisperAudioEncoder.read_config(tmp_path)


@pytest.mark.parametrize(("bins", "frames"), [(80, 400), (128, 3000)])
def test_features_of_another_window_or_number_of_bins_are_refused(model, bins, frames):
    with pytest.raises(CheckpointError, match=rf"takes log-mel features \[80, 3000\], found \[{bins}, {frames}\]"):
        model.whisper_model(torch.zeros(1, bins, frames), torch.ones(1, frames))

"""The frozen Whisper encoder: hidden states of every layer, and how many of their frames are not padding."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from src.checkpoint import CheckpointError, assign, check_names, no_weights, read_json, read_tensors

# Full models name the encoder's weights `model.encoder.*`, encoder-only files `encoder.*` or nothing.
ENCODER_PREFIXES = ("model.encoder.", "encoder.")


class WhisperAudioEncoder(nn.Module):
    """A Whisper encoder of any size, from a Hugging Face checkpoint folder."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(config)

    @staticmethod
    def read_config(folder: Path) -> WhisperConfig:
        """The configuration of a checkpoint; raises CheckpointError where there is none."""
        return WhisperConfig.from_dict(read_json(folder / "config.json"))

    @classmethod
    def from_pretrained(
        cls, path: str | Path, torch_dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> "WhisperAudioEncoder":
        """Load the encoder alone, frozen and in evaluation mode; a decoder in the file is not read into memory.

        Raises CheckpointError for missing, unexpected or misshapen encoder weights.
        """
        path = Path(path)
        with no_weights():
            model = cls(cls.read_config(path)).requires_grad_(False)
        expected = set(model.encoder.state_dict())
        found = set()
        for name, tensor in encoder_tensors(path):
            found.add(name)
            if name in expected:
                assign(model.encoder, name, tensor.to(device=device, dtype=torch_dtype))
        check_names(f"Whisper checkpoint {path}", missing=expected - found, unexpected=found - expected)
        return model.eval()

    @property
    def window_frames(self) -> int:
        """Log-mel frames in one window: 3000 for public checkpoints."""
        return 2 * self.config.max_source_positions

    @staticmethod
    def num_frames(mel_frames: torch.Tensor | int) -> torch.Tensor | int:
        """Encoder frames of log-mel frames (integers): the encoder's second convolution has stride 2."""
        return (mel_frames - 1) // 2 + 1

    def forward(
        self, input_features: torch.Tensor, feature_attention_mask: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Encode whole windows; no gradient is kept.

        Args:
            input_features: log-mel [B, n_mels, F], F = `window_frames`.
            feature_attention_mask: [B, F], nonzero where there is audio and not padding.

        Returns:
            Hidden states of every layer, a tuple of L + 1 tensors [B, F / 2, d_w] (the first is the embedding
            output, the last went through the final layer norm), and each clip's length [B] in frames of them.
        """
        if input_features.shape[1:] != (self.config.num_mel_bins, self.window_frames):
            raise CheckpointError(
                f"this Whisper encoder takes log-mel features [{self.config.num_mel_bins}, {self.window_frames}], "
                f"found {list(input_features.shape[1:])}: does preprocessor_config.json belong to this checkpoint?"
            )
        with torch.no_grad():
            output = self.encoder(input_features.to(self.encoder.conv1.weight.dtype), output_hidden_states=True)
        return output.hidden_states, self.num_frames(feature_attention_mask.sum(dim=-1))


def encoder_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The encoder's weights in a Whisper checkpoint, under their names in the encoder."""
    for name, tensor in read_tensors(folder):
        if name.startswith(("model.decoder.", "decoder.", "proj_out.")):
            continue
        for prefix in ENCODER_PREFIXES:
            name = name.removeprefix(prefix)
        yield name, tensor

"""The frozen Whisper encoder: hidden states of every layer, and how many of their frames are not padding."""

from collections.abc import Collection, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperEncoderLayer

from src.checkpoint import CheckpointError, assign, check_names, no_weights, read_json, read_tensors
from src.configuration_DIFFA import SEMANTIC_STRIDE

# Full models name the encoder's weights `model.encoder.*`, encoder-only files `encoder.*` or nothing.
ENCODER_PREFIXES = ("model.encoder.", "encoder.")
FLOAT16_LIMIT = torch.finfo(torch.float16).max - 1000

gelu_ = torch.ops.aten.gelu_  # in place, which `torch.nn.functional` does not offer


class WhisperAudioEncoder(nn.Module):
    """A Whisper encoder of any size, from a Hugging Face checkpoint folder."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(config)

    @staticmethod
    def read_config(folder: Path) -> WhisperConfig:
        """The configuration of a checkpoint; raises CheckpointError where there is none, or another activation."""
        config = WhisperConfig.from_dict(read_json(folder / "config.json"))
        if config.activation_function != "gelu":
            raise CheckpointError(
                f"{folder / 'config.json'}: activation_function is {config.activation_function!r}; use an encoder "
                "with 'gelu', as every public Whisper has"
            )
        return config

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
        self,
        input_features: torch.Tensor,
        feature_attention_mask: torch.Tensor,
        states: Collection[int] | None = None,
    ) -> tuple[tuple[torch.Tensor | None, ...], torch.Tensor]:
        """Encode whole windows; no gradient is kept.

        Args:
            input_features: log-mel [B, n_mels, F], F = `window_frames`.
            feature_attention_mask: [B, F], nonzero where there is audio and not padding.
            states: of the hidden states 0 ... L, those to return whole; None for all.

        Returns:
            Hidden states of every layer, a tuple of L + 1 tensors [B, F / 2, d_w] (the first is the embedding
            output, the last went through the final layer norm), and each clip's length [B] in frames of them. Instead
            of those not among `states` there is None, but the last is always there, as far as the longest clip goes
            (and at least as far as the semantic adapter's stride).
        """
        if input_features.shape[1:] != (self.config.num_mel_bins, self.window_frames):
            raise CheckpointError(
                f"this Whisper encoder takes log-mel features [{self.config.num_mel_bins}, {self.window_frames}], "
                f"found {list(input_features.shape[1:])}: does preprocessor_config.json belong to this checkpoint?"
            )
        lengths, last = self.num_frames(feature_attention_mask.sum(dim=-1)), self.config.encoder_layers
        states = range(last + 1) if states is None else states
        wanted = slice(None if last in states else max(int(lengths.max()), SEMANTIC_STRIDE))
        input_features = input_features.to(self.encoder.conv1.weight.dtype)
        # a CPU is as fast with one clip at a time, which takes less memory
        clips = input_features.split(1) if input_features.device.type == "cpu" else [input_features]
        with torch.no_grad():
            encoded = [self.encode(clip, states, wanted) for clip in clips]
            by_layer = zip(*encoded, strict=True)
            return tuple(None if states[0] is None else torch.cat(states) for states in by_layer), lengths

    def encode(self, input_features: torch.Tensor, states: Collection[int], wanted: slice) -> list[torch.Tensor | None]:
        """The hidden states that `forward` returns, the last one at the `wanted` columns."""
        encoder, hidden_states = self.encoder, []
        x = gelu_(encoder.conv2(gelu_(encoder.conv1(input_features))))  # [B, d_w, T]
        x = encoder.embed_positions.weight + x.transpose(1, 2)  # [B, T, d_w], lying in memory as the first of them
        for index, layer in enumerate(encoder.layers):
            hidden_states.append(x if index in states else None)
            x = layer_output(layer, x, wanted if layer is encoder.layers[-1] else slice(None))
        return [*hidden_states, encoder.layer_norm(x)]


def layer_output(layer: WhisperEncoderLayer, x: torch.Tensor, wanted: slice) -> torch.Tensor:
    """What a layer makes of hidden states [B, T, d_w]: those at the wanted columns of T.

    GELU and residuals are written over the products, which nobody else reads: new memory costs a CPU 5 % of its time.
    """
    attention = layer.self_attn
    h = layer.self_attn_layer_norm(x)
    projected = attention.q_proj(h[:, wanted]), attention.k_proj(h), attention.v_proj(h)
    q, k, v = (states.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for states in projected)  # [B, H, T, .]
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = attention.out_proj(attended).add_(x[:, wanted])
    x = layer.fc2(gelu_(layer.fc1(layer.final_layer_norm(x)))).add_(x)
    if x.dtype == torch.float16:  # as transformers has it: some states leave its range
        x = x.clamp(-FLOAT16_LIMIT, FLOAT16_LIMIT)
    return x


def encoder_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The encoder's weights in a Whisper checkpoint, under their names in the encoder."""
    for name, tensor in read_tensors(folder):
        if name.startswith(("model.decoder.", "decoder.", "proj_out.")):
            continue
        for prefix in ENCODER_PREFIXES:
            name = name.removeprefix(prefix)
        yield name, tensor

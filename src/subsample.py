"""The semantic adapter: Whisper's last hidden states at 50 Hz become LLM embeddings at 12.5 Hz (paper, section 3.2)."""

import torch
from torch import nn

from src.configuration_DIFFA import SEMANTIC_STRIDE


class WhisperProjector(nn.Module):
    """Two convolutions (the second one with stride 4), a two-layer projection, a layer norm."""

    def __init__(self, encoder_dim: int, llm_dim: int) -> None:
        super().__init__()
        wide = 4 * encoder_dim
        self.conv = nn.Sequential(
            nn.Conv1d(encoder_dim, encoder_dim, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv1d(encoder_dim, wide, kernel_size=3, stride=SEMANTIC_STRIDE, padding=1),
        )
        self.linear_connector = nn.Sequential(
            nn.Linear(wide, encoder_dim), nn.ReLU(), nn.Linear(encoder_dim, llm_dim), nn.ReLU()
        )
        self.layernorm = nn.LayerNorm(llm_dim)

    def scale_outputs(self, scale: torch.Tensor) -> None:
        """Bring a new adapter's embeddings from unit root mean square to `scale`."""
        self.layernorm.weight.mul_(scale)

    def forward(self, hidden_states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, max(n // 4), d_llm] and their lengths [B], of hidden states [B, T, d_w] of lengths n [B].

        Each clip comes out as it would alone: its frames past 4 * (n // 4) are zeroed before the first convolution,
        which is what the convolution's own padding would put there; the second one does not reach past them.
        Embeddings past a clip's length are meaningless and must be masked by the caller.
        """
        out_lengths = lengths // SEMANTIC_STRIDE  # [B]
        num_frames = SEMANTIC_STRIDE * max(int(out_lengths.max()), 1)
        hidden_states = hidden_states[:, :num_frames]
        frames = torch.arange(num_frames, device=hidden_states.device)
        real = frames < (SEMANTIC_STRIDE * out_lengths)[:, None]  # [B, num_frames]
        x = hidden_states * real[:, :, None]
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)  # [B, num_frames / 4, 4 d_w]
        return self.layernorm(self.linear_connector(x)), out_lengths

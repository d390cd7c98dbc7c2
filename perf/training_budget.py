"""Memory and time of training by arithmetic, for each stage of DIFFA and DIFFA-2 on GPUs of 24, 48 and 80 GB.

    python perf/training_budget.py

Nothing is measured, and no GPU is needed; docs/training.md explains the sum and holds these tables, docs/gpu.md what an
H100 showed. GB are 10^9 bytes, TFLOP 10^12 operations; a clip is 30 s, the encoder's window, with 150 tokens of text.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.configuration_DIFFA import (
    ENCODER_RATE,
    NUM_QUERIES,
    NUM_TRAINABLE_PROMPTS,
    SEMANTIC_STRIDE,
    WINDOW_SECONDS,
)
from src.lora import LORA_TARGETS
from src.training_plan import ADAPTER_BYTES, SPARE_BYTES, bytes_of_clip

TEXT_TOKENS = 150
MASKED_TOKENS = 40  # whose logits are computed: half of an answer region of 80
VRPO_DRAWS = 4
BYTES_BF16 = 2
BYTES_COMPARED = ADAPTER_BYTES + 12  # a trained parameter in stage 4: the reference's, gradient sums of two answers
BYTES_A_WEIGHT = 5  # of attention in training: before and after dropout in bf16, and which fell out
CLIPS_TIMED = 100_000
UTILISATION = 0.4  # of a card's matrix products; docs/gpu.md: 37 to 41 % of an H100's 989 TFLOP/s


@dataclass(frozen=True)
class Encoder:
    """A Whisper encoder, its hidden states and how many of them the acoustic adapter reads."""

    name: str
    d: int
    layers: int
    targets: int

    @property
    def frames(self) -> int:
        return round(WINDOW_SECONDS * ENCODER_RATE)

    @property
    def parameters(self) -> int:
        """Of its layers; convolutions and positions are small beside them."""
        return self.layers * 12 * self.d**2

    @property
    def flop(self) -> float:
        """Of a window."""
        return 2 * self.parameters * self.frames + 4 * self.layers * self.frames**2 * self.d

    def bytes_a_clip(self, acoustic: bool) -> float:
        """Its hidden states; with the acoustic adapter, what its two layers attend to and by which weights."""
        states = BYTES_BF16 * self.frames * self.d * (self.layers + 1)
        keys_and_values = BYTES_BF16 * self.frames * self.d * self.targets * 2 * 2
        weights = NUM_QUERIES * self.frames * self.heads * self.targets * 2 * BYTES_A_WEIGHT
        return states + (keys_and_values + weights if acoustic else 0)

    @property
    def heads(self) -> int:
        return self.d // 64


@dataclass(frozen=True)
class LLM:
    """LLaDA-8B."""

    d_model: int = 4096
    n_layers: int = 32
    mlp_hidden_size: int = 12288
    embedding_size: int = 126464

    @property
    def block_parameters(self) -> int:
        return 4 * self.d_model**2 + 3 * self.d_model * self.mlp_hidden_size + 2 * self.d_model

    @property
    def parameters(self) -> int:
        return self.n_layers * self.block_parameters + 2 * self.embedding_size * self.d_model + self.d_model

    def flop(self, length: int) -> float:
        """Of a forward pass over so many positions."""
        blocks = 2 * self.block_parameters * length + 4 * length**2 * self.d_model
        return self.n_layers * blocks + 2 * MASKED_TOKENS * self.embedding_size * self.d_model


@dataclass(frozen=True)
class Recipe:
    """One stage as published."""

    name: str
    encoder: Encoder
    trained: float  # parameters
    prefix: int  # embeddings before the semantic ones
    batch: int  # clips a GPU
    update: int  # clips
    lora: bool = False
    passes: float = 2  # of the LLM, in forward passes: one forward, one backward through frozen weights
    graphs: int = 1  # forward passes with a backward one
    bytes_trained: int = ADAPTER_BYTES

    @property
    def length(self) -> int:
        return self.prefix + round(WINDOW_SECONDS * ENCODER_RATE / SEMANTIC_STRIDE) + TEXT_TOKENS

    @property
    def resting_bytes(self) -> float:
        """Whatever the batch."""
        frozen = BYTES_BF16 * (LLM().parameters + self.encoder.parameters)
        return frozen + self.bytes_trained * self.trained + SPARE_BYTES

    def bytes_a_clip(self, checkpointing: bool) -> float:
        kept = bytes_of_clip(LLM(), self.length, BYTES_BF16, checkpointing, len(LORA_TARGETS) if self.lora else 0)
        return kept + self.encoder.bytes_a_clip(acoustic=self.prefix == NUM_QUERIES)

    def flop_a_clip(self, checkpointing: bool) -> float:
        again = self.graphs if checkpointing else 0  # each graph's forward a second time
        return (self.passes + again) * LLM().flop(self.length) + self.encoder.flop

    def clips_that_fit(self, card: "Card", checkpointing: bool) -> int:
        return max(0, int((card.bytes - self.resting_bytes) // self.bytes_a_clip(checkpointing)))


@dataclass(frozen=True)
class Card:
    """A GPU, by its data sheet."""

    name: str
    bytes: float
    flops: float  # dense matrix products in bf16, operations a second


SMALL, LARGE = Encoder("whisper-small", 768, 12, 4), Encoder("whisper-large-v3", 1280, 32, 8)
CARDS = (Card("RTX 4090, 24 GB", 24e9, 165e12), Card("L40S, 48 GB", 48e9, 362e12), Card("A100, 80 GB", 80e9, 312e12))
VRPO_PASSES = 2 * VRPO_DRAWS * 3  # two answers; the reference's forward, the policy's forward and backward
RECIPES = (
    Recipe("DIFFA 1", SMALL, 14.5e6, NUM_TRAINABLE_PROMPTS, 16, 128),
    Recipe("DIFFA 2", SMALL, 36.6e6, NUM_QUERIES, 4, 32),
    Recipe("DIFFA-2 1", LARGE, 36.5e6, NUM_TRAINABLE_PROMPTS, 20, 1280),
    Recipe("DIFFA-2 2", LARGE, 84.3e6, NUM_QUERIES, 3, 192),
    Recipe("DIFFA-2 3", LARGE, 99.0e6, NUM_QUERIES, 3, 192, lora=True),
    Recipe(
        "DIFFA-2 4, a pair",
        LARGE,
        99.0e6,
        NUM_QUERIES,
        1,
        16,
        lora=True,
        passes=VRPO_PASSES,
        graphs=2 * VRPO_DRAWS,
        bytes_trained=BYTES_COMPARED,
    ),
)


def memory_table() -> str:
    lines = ["| stage | whatever the batch, GB | a clip, GB | with checkpointing | 24 GB | 48 GB | 80 GB |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for recipe in RECIPES:
        fitting = [f"{recipe.clips_that_fit(card, False)} or {recipe.clips_that_fit(card, True)}" for card in CARDS]
        clip, less = (recipe.bytes_a_clip(checkpointing) / 1e9 for checkpointing in (False, True))
        lines.append(
            f"| {recipe.name} | {recipe.resting_bytes / 1e9:.1f} | {clip:.2f} | {less:.2f} | {' | '.join(fitting)} |"
        )
    return "\n".join(lines)


def time_table() -> str:
    lines = [f"| stage | TFLOP a clip | {' | '.join(f'hours on {card.name}' for card in CARDS)} |"]
    lines.append(f"| --- | --- | {' | '.join('---' for _ in CARDS)} |")
    for recipe in RECIPES:
        hours = []
        for card in CARDS:
            checkpointing = recipe.clips_that_fit(card, False) < 3
            seconds = recipe.flop_a_clip(checkpointing) / (UTILISATION * card.flops)
            hours.append(f"{seconds * CLIPS_TIMED / 3600:.1f}{'*' if checkpointing else ''}")
        lines.append(f"| {recipe.name} | {recipe.flop_a_clip(False) / 1e12:.0f} | {' | '.join(hours)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{memory_table()}\n\n{time_table()}")

"""Memory and time of training by arithmetic, for each stage of DIFFA and DIFFA-2 on GPUs of 24, 48 and 80 GB.

    python perf/training_budget.py

Nothing is measured, and no GPU is needed; docs/training.md explains the sum and holds these tables, docs/gpu.md what an
H100 showed. GB are 10^9 bytes, TFLOP 10^12 operations; a clip is 30 s, the encoder's window, with 150 tokens of text.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perf.full_size import LLADA_8B, WHISPER_LARGE, WHISPER_SMALL
from src.configuration_DIFFA import (
    ENCODER_RATE,
    NUM_QUERIES,
    NUM_TRAINABLE_PROMPTS,
    SEMANTIC_STRIDE,
    WINDOW_SECONDS,
)
from src.lora import LORA_TARGETS
from src.training_plan import bytes_heard, bytes_of_clip, training_memory

TEXT_TOKENS = 150
MASKED_TOKENS = 40  # whose logits are computed: half of an answer region of 80
VRPO_DRAWS = 4
BYTES_BF16 = 2
CLIPS_TIMED = 100_000
UTILISATION = 0.4  # of a card's matrix products; docs/gpu.md: 36 to 45 % of an H100's 989 TFLOP/s in stages 1, 2


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

    @property
    def heads(self) -> int:
        return self.d // 64


@dataclass(frozen=True)
class LLM:
    """LLaDA-8B."""

    d_model: int = LLADA_8B["d_model"]
    n_layers: int = LLADA_8B["n_layers"]
    mlp_hidden_size: int = LLADA_8B["mlp_hidden_size"]
    embedding_size: int = LLADA_8B["embedding_size"]

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

    family: str
    stage: int
    encoder: Encoder
    trained: float  # parameters
    prefix: int  # embeddings before the semantic ones
    batch: int  # clips a GPU
    update: int  # clips
    lora: bool = False
    passes: float = 2  # of the LLM, in forward passes: one forward, one backward through frozen weights
    graphs: int = 1  # forward passes with a backward one
    compares: bool = False  # with a reference, one text at a time (stage 4)

    @property
    def name(self) -> str:
        return f"{self.family} {self.stage}" + (", a pair" if self.compares else "")

    @property
    def length(self) -> int:
        return self.prefix + round(WINDOW_SECONDS * ENCODER_RATE / SEMANTIC_STRIDE) + TEXT_TOKENS

    def resting_bytes(self, checkpointing: bool) -> float:
        """Whatever the batch."""
        return self.memory(checkpointing)[0]

    def bytes_a_clip(self, checkpointing: bool) -> float:
        return self.memory(checkpointing)[1]

    def memory(self, checkpointing: bool) -> tuple[float, float]:
        encoder, lora = self.encoder, len(LORA_TARGETS) if self.lora else 0
        targets = encoder.targets if self.prefix == NUM_QUERIES else 0
        frozen = BYTES_BF16 * (LLM().parameters + encoder.parameters)
        kept = bytes_of_clip(LLM(), self.length, BYTES_BF16, checkpointing, lora)
        heard = bytes_heard(encoder.frames, encoder.d, encoder.heads, targets, NUM_QUERIES, BYTES_BF16)
        return training_memory(frozen, self.trained, kept, heard, draws=int(self.compares))

    def flop_a_clip(self, checkpointing: bool) -> float:
        again = self.graphs if checkpointing else 0  # each graph's forward a second time
        return (self.passes + again) * LLM().flop(self.length) + self.encoder.flop

    def clips_that_fit(self, card: "Card", checkpointing: bool) -> int:
        left = card.bytes - self.resting_bytes(checkpointing)
        return max(0, int(left // self.bytes_a_clip(checkpointing)))


@dataclass(frozen=True)
class Card:
    """A GPU, by its data sheet."""

    name: str
    bytes: float
    flops: float  # dense matrix products in bf16, operations a second


SMALL = Encoder("whisper-small", WHISPER_SMALL["d_model"], WHISPER_SMALL["encoder_layers"], 4)
LARGE = Encoder("whisper-large-v3", WHISPER_LARGE["d_model"], WHISPER_LARGE["encoder_layers"], 8)
CARDS = (Card("RTX 4090, 24 GB", 24e9, 165e12), Card("L40S, 48 GB", 48e9, 362e12), Card("A100, 80 GB", 80e9, 312e12))
VRPO_PASSES = 2 * VRPO_DRAWS * 3  # two answers; the reference's forward, the policy's forward and backward
RECIPES = (
    Recipe("DIFFA", 1, SMALL, 14.5e6, NUM_TRAINABLE_PROMPTS, 16, 128),
    Recipe("DIFFA", 2, SMALL, 36.6e6, NUM_QUERIES, 4, 32),
    Recipe("DIFFA-2", 1, LARGE, 36.5e6, NUM_TRAINABLE_PROMPTS, 20, 1280),
    Recipe("DIFFA-2", 2, LARGE, 84.3e6, NUM_QUERIES, 3, 192),
    Recipe("DIFFA-2", 3, LARGE, 99.0e6, NUM_QUERIES, 3, 192, lora=True),
    Recipe(
        "DIFFA-2",
        4,
        LARGE,
        99.0e6,
        NUM_QUERIES,
        1,
        16,
        lora=True,
        passes=VRPO_PASSES,
        graphs=2 * VRPO_DRAWS,
        compares=True,
    ),
)


def memory_table() -> str:
    lines = [
        "| stage | whatever the batch, GB | a clip, GB | 24 GB | 48 GB | 80 GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in RECIPES:
        columns = [
            both(lambda checkpointing, r=recipe: f"{r.resting_bytes(checkpointing) / 1e9:.1f}"),
            both(lambda checkpointing, r=recipe: f"{r.bytes_a_clip(checkpointing) / 1e9:.2f}"),
            *(both(lambda checkpointing, r=recipe, c=card: f"{r.clips_that_fit(c, checkpointing)}") for card in CARDS),
        ]
        lines.append(f"| {' | '.join((recipe.name, *columns))} |")
    return "\n".join(lines)


def both(of: Callable[[bool], str]) -> str:
    """A figure without checkpointing and with it; once where it is the same."""
    return " or ".join(dict.fromkeys((of(False), of(True))))


def time_table() -> str:
    lines = [f"| stage | TFLOP a clip | {' | '.join(f'hours on {card.name}' for card in CARDS)} |"]
    lines.append(f"| --- | --- | {' | '.join('---' for _ in CARDS)} |")
    for recipe in RECIPES:
        hours = []
        for card in CARDS:
            checkpointing = recipe.clips_that_fit(card, False) < (1 if recipe.compares else 3)
            seconds = recipe.flop_a_clip(checkpointing) / (UTILISATION * card.flops)
            hours.append(f"{seconds * CLIPS_TIMED / 3600:.1f}{'*' if checkpointing else ''}")
        lines.append(f"| {recipe.name} | {recipe.flop_a_clip(False) / 1e12:.0f} | {' | '.join(hours)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{memory_table()}\n\n{time_table()}")

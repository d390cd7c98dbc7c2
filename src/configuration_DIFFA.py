"""Every constant of DIFFA, and the configurations of its parts: the LLM's and the whole model's.

Sizes and token ids are not here: they come from the checkpoints' own `config.json` and tokenizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

import src.optional_packages  # noqa: F401  before transformers imports them

ROOT = Path(__file__).resolve().parents[1]  # of the repository
SAMPLE_RATE = 16_000  # Hz, of Whisper's input
WINDOW_SECONDS = 30.0  # the public Whisper window; a checkpoint's preprocessor_config.json may say less
AUDIO_MARKER = "<audio>"  # stays in the prompt; the audio goes in just before it
NUM_TRAINABLE_PROMPTS = 20  # learned embeddings before the semantic sequence in stage 1
NUM_QUERIES = 64  # learned queries of the acoustic adapter, per target layer
ENCODER_RATE = 50  # Hz, of Whisper's hidden states
SEMANTIC_STRIDE = 4  # encoder frames per semantic embedding: 50 Hz -> 12.5 Hz
MIN_MASK_RATE = 1e-3  # the lowest masking rate t' (LLaDA, arXiv 2502.09992, algorithm 1)
MAX_TEXT_TOKENS = 2048  # of a training sample, prompt and answer together (the published recipe)
SEEDS = 2**62  # random seeds are drawn below this; torch's generator on CPUs tells apart their low 32 bits alone
IGNORE_INDEX = -100  # label of a position that does not count

ADAPTER_MODULES = ("trainable_prompts", "semantic_connector", "acoustic_connector")  # of DIFFAModel

PUBLIC_LLM = "GSAI-ML/LLaDA-8B-Instruct"
PUBLIC_WHISPER = "openai/whisper-small"


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    trains: tuple[str, ...]  # modules with gradients and optimizer state; its checkpoints hold these and no others
    starts_from: int | None  # the stage whose checkpoint it starts from; None: new adapters
    prefix: str  # the module whose embeddings precede the semantic ones in the LLM's input
    transcribes: bool  # learns to answer with a sample's transcription, not with its target
    lora: bool = False  # trains LoRA factors of the LLM as well
    prefers: bool = False  # learns to prefer the better answer of a pair, not to give one answer


STAGES = {
    1: Stage(
        trains=("trainable_prompts", "semantic_connector"),
        starts_from=None,
        prefix="trainable_prompts",
        transcribes=True,
    ),
    2: Stage(
        trains=("semantic_connector", "acoustic_connector"),
        starts_from=1,
        prefix="acoustic_connector",
        transcribes=False,
    ),
}
STAGES[3] = replace(STAGES[2], starts_from=2, lora=True)  # DIFFA-2's supervised fine-tuning
STAGES[4] = replace(STAGES[3], starts_from=3, prefers=True)  # DIFFA-2's preference optimisation
DEFAULT_STAGE = 2  # of checkpoints that name none: published ones, which hold all adapters


@dataclass(frozen=True)
class LLaDAConfig:
    """The fields of LLaDA's `config.json` that shape the computation. Sizes are numbers of elements."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    mlp_hidden_size: int
    embedding_size: int  # rows of the embedding and of the output projection
    rope_theta: float
    rms_norm_eps: float
    max_sequence_length: int
    weight_tying: bool
    mask_token_id: int
    eos_token_id: int
    pad_token_id: int

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "LLaDAConfig":
        """Read a public `config.json`.

        Raises ValueError for a missing field, or for a variant of the architecture that LLaDA-8B does not use
        (its code base knows many: other blocks, biases, ALiBi, ...), since that would compute something else.
        """
        fixed = {
            "block_type": "llama", "activation_type": "silu", "layer_norm_type": "rms", "rope": True, "alibi": False,
            "include_bias": False, "include_qkv_bias": False, "attention_layer_norm": False, "scale_logits": False,
            "input_emb_norm": False,
        }  # fmt: skip
        for name, expected in fixed.items():
            found = config.get(name, expected)
            if found != expected:
                raise ValueError(
                    f"LLaDA config: {name} is {found!r}; only {expected!r} (as in LLaDA-8B) is implemented"
                )
        values = dict(config)
        # The same defaults as in the public configuration class, where null means "derive it".
        values.setdefault("weight_tying", False)
        values["n_kv_heads"] = values.get("n_kv_heads") or values.get("n_heads")
        values["embedding_size"] = values.get("embedding_size") or values.get("vocab_size")
        if not values.get("mlp_hidden_size") and values.get("d_model"):
            values["mlp_hidden_size"] = values.get("mlp_ratio", 4) * values["d_model"]
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if values.get(name) is None]
        if missing:
            raise ValueError(f"LLaDA config lacks {', '.join(missing)}: is this the config.json of a LLaDA checkpoint?")
        made = cls(**{name: values[name] for name in names})
        heads, shared = made.n_heads, made.n_kv_heads
        if not (heads > 0 and shared > 0 and made.d_model % (2 * heads) == 0 and heads % shared == 0):
            raise ValueError(
                f"LLaDA config: d_model {made.d_model} with n_heads {heads} and n_kv_heads {shared}; expected heads of "
                "an even width, and as many for each of keys and values"
            )
        return made

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


class DIFFAConfig(PretrainedConfig):
    """A DIFFA checkpoint's `config.json`: which frozen parts it was trained on, and the adapters' shape.

    Fields of the published file that nothing reads (`conv_kernel_sizes`, `adapter_inner_dim`) are kept as they are.

    Attributes:
        whisper_config, llm_config: the frozen parts' own configurations, as dicts.
        whisper_model_id, llm_model_id: folder or hub name of the frozen parts the adapters were trained on.
        prompt_size: learned queries of the acoustic adapter.
        acoustic_connector_config: may hold `target_layer_ids`, the encoder hidden states that the acoustic adapter
            reads; without it they follow from the encoder's depth (see `qformer.target_layers`).
        stage: of `STAGES`, the one that wrote the checkpoint; None in published ones, which hold all adapters.
        family: "diffa" or "diffa2"; None in published ones (see `family.family_of`).
        lora_alpha: of the LoRA factors, whose scale is lora_alpha / r; None: 2 r, as published.
    """

    model_type = "diffa"

    def __init__(
        self,
        whisper_config: dict | None = None,
        llm_config: dict | None = None,
        prompt_size: int = NUM_QUERIES,
        whisper_model_id: str = PUBLIC_WHISPER,
        llm_model_id: str = PUBLIC_LLM,
        acoustic_connector_config: dict | None = None,
        stage: int | None = None,
        family: str | None = None,
        lora_alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.whisper_config = whisper_config or {}
        self.llm_config = llm_config or {}
        self.prompt_size = prompt_size
        self.whisper_model_id = whisper_model_id
        self.llm_model_id = llm_model_id
        self.acoustic_connector_config = acoustic_connector_config or {}
        self.stage = stage
        self.family = family
        self.lora_alpha = lora_alpha
        super().__init__(**kwargs)

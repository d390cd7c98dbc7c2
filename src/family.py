"""The two generations of DIFFA, which are told apart by their checkpoints."""

from pathlib import Path

from src.checkpoint import CheckpointError, read_json
from src.configuration_DIFFA import DIFFAConfig
from src.lora import LoRA, has_lora

FAMILIES = {"diffa": "DIFFA", "diffa2": "DIFFA-2"}  # as config.json says it -> as people do
DIFFA2_MEL_BINS = 128  # of its encoder, whisper-large-v3; DIFFA's, whisper-small, has 80


def family_of(config: DIFFAConfig, with_lora: bool) -> str:
    """A checkpoint's family: what its config says, as ours do; else what DIFFA-2 brought shows, LoRA or the encoder.

    Raises CheckpointError for a family that is unknown.
    """
    if config.family is None:
        of_diffa2 = with_lora or config.whisper_config.get("num_mel_bins") == DIFFA2_MEL_BINS
        return "diffa2" if of_diffa2 else "diffa"
    if config.family not in FAMILIES:
        raise CheckpointError(f"config.json: family is {config.family!r}; expected one of {', '.join(FAMILIES)}")
    return config.family


def read_family(folder: Path) -> str:
    """The family of the checkpoint in a folder; its weights are not read. Raises CheckpointError."""
    return family_of(DIFFAConfig.from_dict(read_json(folder / "config.json")), has_lora(folder))


def describe(config: DIFFAConfig, lora: LoRA | None) -> str:
    """What was loaded, for people."""
    updates = f", LoRA of rank {lora.rank} merged into {len(lora.factors)} weights of the LLM" if lora else ""
    return f"a {FAMILIES[config.family]} checkpoint{updates}"

"""The frozen parts: which class reads a checkpoint folder, and whether a DIFFA checkpoint's adapters fit them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.checkpoint import CheckpointError, read_json, resolve
from src.configuration_DIFFA import DIFFAConfig
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder

# By `model_type` in a folder's config.json; a config that names none is taken for the first.
LLM_CLASSES = {"llada": LLaDAModel}
ENCODER_CLASSES = {"whisper": WhisperAudioEncoder}


def llm_class(folder: Path) -> type[LLaDAModel]:
    """The class of the LLM in a folder. Raises CheckpointError for one that is not implemented."""
    return class_of(folder, LLM_CLASSES, "an LLM")


def encoder_class(folder: Path) -> type[WhisperAudioEncoder]:
    """The class of the encoder in a folder. Raises CheckpointError for one that is not implemented."""
    return class_of(folder, ENCODER_CLASSES, "an encoder")


def class_of(folder: Path, classes: Mapping[str, type], what: str) -> Any:
    path = folder / "config.json"
    found = read_json(path).get("model_type", next(iter(classes)))
    if found not in classes:
        raise CheckpointError(f"{path}: model_type is {found!r}; expected {what} of type {' or '.join(classes)}")
    return classes[found]


def check_frozen_parts(saved: DIFFAConfig, llm_path: str | os.PathLike, whisper_path: str | os.PathLike) -> None:
    """Raise CheckpointError when a frozen part is not of the size that a checkpoint's adapters were trained on.

    Reads the parts' `config.json` alone: nothing is loaded for adapters that cannot fit.
    """
    llm_folder = resolve(llm_path, "the LLM (LLaDA)", "--llm_path")
    whisper_folder = resolve(whisper_path, "the Whisper encoder", "--whisper_path")
    llm = llm_class(llm_folder).read_config(llm_folder)
    encoder = encoder_class(whisper_folder).read_config(whisper_folder)
    check_size("LLM", "--llm_path", llm_path, saved.llm_config, vars(llm), ("d_model",))
    check_size(
        "Whisper encoder", "--whisper_path", whisper_path, saved.whisper_config, vars(encoder),
        ("d_model", "encoder_layers", "num_mel_bins"),
    )  # fmt: skip


def check_size(
    what: str,
    flag: str,
    path: str | os.PathLike,
    trained_on: Mapping[str, Any],
    found: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """Raise CheckpointError for the first of `names` whose value differs from what the adapters were trained on."""
    for name in names:
        if name in trained_on and trained_on[name] != found.get(name):
            raise CheckpointError(
                f"the adapters were trained on a {what} with {name} {trained_on[name]}, but {path} has "
                f"{found.get(name)}; pass the {what} they were trained on with {flag}"
            )

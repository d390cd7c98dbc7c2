"""The functions by which an implementation is held against the golden DIFFA-2 figures, over this repository's code.

`tests/test_golden2.py` calls them, and perf/gpu_golden.py those of training. Everything is float32, on a CPU unless a
device is given; waveforms are float32 numpy at 16 kHz.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from src.audio import log_mel
from src.llm_generate import GenerationOptions
from src.lora import is_peft, own_name
from src.masked_diffusion import apply_masks
from src.modeling_DIFFA import DIFFAModel
from src.preference import PreferenceObjective
from src.preference_model import PreferenceModel
from src.prompts import SYSTEM_PROMPTS, build_prompt, tokenize_prompt, turns_before_answer
from src.splice import splice

SIDES = ("chosen", "rejected")
SFT_TENSORS = ("input_ids", "labels", "t")


def load(root: str | Path, checkpoint: str, stage: int) -> DIFFAModel:
    """A model for inference."""
    root = Path(root)
    model = DIFFAModel.from_pretrained(root / checkpoint, root / "llada", root / "whisper")
    model.stage = stage
    return model


def load_trainable(root: str | Path, checkpoint: str, device: str | torch.device = "cpu") -> PreferenceModel:
    """A model for stages 3 and 4: both adapters and the LoRA factors trainable, not merged; nothing is dropped out."""
    root = Path(root)
    model = PreferenceModel.from_pretrained(
        root / checkpoint, root / "llada", root / "whisper", device=device, merge_lora=False
    )
    model.prepare_training(4)
    return model


def llm_weight(model: DIFFAModel, name: str) -> torch.Tensor:
    """An LLM weight by its name in the public LLaDA checkpoint."""
    return model.llm_model.get_parameter(name)


def speech(model: DIFFAModel, waveform: np.ndarray) -> torch.Tensor:
    """Audio embeddings [n, d_llm]."""
    return model.get_speech_features([waveform])[0][0]


def prompt(model: DIFFAModel, instruction: str, training: bool) -> tuple[torch.Tensor, int]:
    """Token ids [L] and the audio's position; the assistant's header ends it at inference, and follows in training."""
    text = turns_before_answer(instruction, SYSTEM_PROMPTS["long"]) if training else build_prompt(instruction)
    ids, position = tokenize_prompt(model.tokenizer, text)
    return torch.tensor(ids), position


@torch.inference_mode()
def logits(model: DIFFAModel, waveform: np.ndarray, ids: torch.Tensor, audio_position: int) -> torch.Tensor:
    """[n + L, vocabulary] with the audio before token `audio_position`."""
    audio_embeds, audio_lengths = model.get_speech_features([waveform])
    text_embeds, text_mask = model.llm_model.embed(ids[None]), torch.ones(1, len(ids))
    spliced = splice(text_embeds, text_mask, audio_embeds, audio_lengths, torch.tensor([audio_position]), "right")
    return model.llm_model.project(model.llm_model(spliced.inputs_embeds))[0]


def generate(
    model: DIFFAModel,
    waveform: np.ndarray,
    instruction: str,
    mode: str,
    steps: int,
    block_length: int,
    max_new_tokens: int,
    cfg_scale: float = 0.0,
    factor: float | None = None,
    threshold: float | None = None,
) -> tuple[list[int], int]:
    """Answer ids [max_new_tokens], and the number of forward passes of the LLM.

    Mode "origin" decodes in fixed steps, "fast" as the published fast mode does, by factor, threshold or neither.
    """
    length = {"steps": steps, "block_length": block_length, "max_new_tokens": max_new_tokens}
    preset = "fast_dllm" if mode == "fast" else "exact"
    options = GenerationOptions.of_preset(preset, cfg_scale=cfg_scale, factor=factor, threshold=threshold, **length)
    answers = model.answer([waveform], [instruction], options)
    return answers.ids[0].tolist(), answers.forward_passes[0]


def sft_batch(
    figures: Mapping[str, torch.Tensor], case: Mapping[str, Any], device: torch.device | str
) -> dict[str, Any]:
    """What `sft_loss` takes, of a recorded case."""
    given = {name: figures[f"{case['key']}.{name}"].to(device) for name in (*SFT_TENSORS, "audio_info_lengths")}
    return given | {"audio_position": given["audio_info_lengths"].view(-1), "denominator": case["denominator"]}


def vrpo_batch(
    figures: Mapping[str, torch.Tensor], case: Mapping[str, Any], device: torch.device | str
) -> dict[str, Any]:
    """What `vrpo_loss` takes, of a recorded case."""
    names = ["audio_info_lengths", *(f"{side}_{name}" for side in SIDES for name in ("input_ids", "p_mask", "masks"))]
    given = {name: figures[f"{case['key']}.{name}"].to(device) for name in names}
    masks = {f"{side}_masks": given[f"{side}_masks"].bool() for side in SIDES}
    return given | masks | {"audio_position": given["audio_info_lengths"].view(-1)}


def sft_loss(model: PreferenceModel, waveforms: Sequence[np.ndarray], batch: Mapping[str, Any]) -> torch.Tensor:
    """The loss of a batch of `input_ids` (masks applied), `labels`, `t` (all tokens of a row have one)."""
    features = (tensor.to(model.device) for tensor in log_mel(model.feature_extractor, waveforms))
    return DIFFAModel.forward(
        model, *features, batch["input_ids"], batch["labels"], batch["t"][:, 0],
        batch["audio_position"], torch.ones_like(batch["input_ids"]), batch["denominator"],
    ).loss  # fmt: skip


def vrpo_loss(
    policy: PreferenceModel,
    reference: DIFFAModel,
    waveforms: Sequence[np.ndarray],
    batch: Mapping[str, Any],
    beta: float,
) -> dict[str, torch.Tensor]:
    """`loss`, and the ELBOs [B] `chosen_theta`, `chosen_ref`, `rejected_theta`, `rejected_ref`.

    The batch has clean ids [B, L], masks [K, B, L] and rates [K, B] of both answers.
    """
    policy.refer_to(reference)
    policy.objective = PreferenceObjective(beta)
    sides = [{name: batch[f"{side}_{name}"] for name in ("input_ids", "masks", "p_mask")} for side in SIDES]
    longest = max(side["input_ids"].shape[1] for side in sides)
    clean, masks, text = (
        torch.stack([F.pad(tensor, (0, longest - tensor.shape[-1])) for tensor in tensors])
        for tensors in (
            [side["input_ids"] for side in sides],
            [side["masks"] for side in sides],
            [torch.ones_like(side["input_ids"]) for side in sides],  # the published padding counts
        )
    )
    input_ids, labels = apply_masks(clean[:, None], masks, policy.llm_model.config.mask_token_id)
    features = (tensor.to(policy.device) for tensor in log_mel(policy.feature_extractor, waveforms))
    output = policy(
        *features, input_ids, labels, torch.stack([side["p_mask"] for side in sides]),
        batch["audio_position"], text,
    )  # fmt: skip
    estimates = (output.policy_elbos.mean(dim=1), output.reference_elbos.mean(dim=1))  # [2, B]
    elbos = zip(("theta", "ref"), estimates, strict=True)
    return {"loss": output.loss} | {
        f"{side}_{who}": elbo for who, pair in elbos for side, elbo in zip(SIDES, pair, strict=True)
    }


def grad_norm(model: DIFFAModel, name: str) -> float | None:
    """The norm of a gradient, by the parameter's published name; None where there is none."""
    gradient = model.get_parameter(own_name(name) if is_peft(name) else name).grad
    return None if gradient is None else gradient.norm().item()

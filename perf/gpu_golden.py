"""Part `golden` of perf/gpu.py: what the published code computed on a CPU, and what this machine's device makes of it.

float32 (without TF32) must give the same numbers and tokens. bfloat16 rounds, so it is only told how many tokens agree.
"""

import json
import math
from typing import Any

import torch
from safetensors.torch import load_file

from perf.gpu_record import Record
from src.audio import log_mel, read_audio
from src.configuration_DIFFA import ROOT
from src.llm_generate import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from tests import diffa2_api

GOLDEN, GOLDEN2 = ROOT / "tests" / "golden", ROOT / "tests" / "golden2"  # DIFFA, DIFFA-2
TOLERANCE = 1e-3  # of float32, relative to the largest number of a tensor
AUDIO_POSITION = 28  # in every golden prompt
DIFFA2_SETTINGS = ("steps", "block_length", "max_new_tokens", "cfg_scale", "factor", "threshold")
SETTINGS = ("steps", "block_length", "max_new_tokens", "cfg_scale", "temperature", "remasking")


def measure_all(record: Record) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    golden, cases = load_file(GOLDEN / "golden.safetensors"), json.loads((GOLDEN / "golden.json").read_text())
    clips = [read_audio(GOLDEN / name) for name in cases["clips"]]
    model = load(record.device, torch.float32)
    record.row("LLM logits", lambda: checked(logits(model, golden)))
    record.row("audio embeddings", lambda: checked(speech(model, golden, clips)))
    record.row("losses and gradients", lambda: checked(losses(record.device, golden, cases, clips)))
    record.row("generations, float32", lambda: generations(model, golden, cases, clips, exactly=True))
    low = load(record.device, torch.bfloat16)
    record.row("generations, bfloat16", lambda: generations(low, golden, cases, clips, exactly=False))
    measure_diffa2(record)


def measure_diffa2(record: Record) -> None:
    figures, cases = load_file(GOLDEN2 / "golden.safetensors"), json.loads((GOLDEN2 / "golden.json").read_text())
    clips = [read_audio(GOLDEN2 / name) for name in cases["clips"]]
    models = {
        name: DIFFAModel.from_pretrained(GOLDEN2 / name, GOLDEN2 / "llada", GOLDEN2 / "whisper", device=record.device)
        for name in {case["checkpoint"] for kind in ("speech", "generate") for case in cases[kind]}
    }
    record.row("DIFFA-2, audio embeddings", lambda: checked(diffa2_speech(models, figures, cases, clips)))
    record.row("DIFFA-2, generations, float32", lambda: diffa2_generations(models, figures, cases, clips))
    record.row("DIFFA-2, losses and gradients", lambda: checked(diffa2_losses(record.device, figures, cases, clips)))


def load(device: torch.device, dtype: torch.dtype) -> DIFFAModel:
    return DIFFAModel.from_pretrained(
        GOLDEN / "diffa_upstream", GOLDEN / "llada", GOLDEN / "whisper", torch_dtype=dtype, device=device
    )


def checked(errors: dict[str, float]) -> dict[str, Any]:
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    return {"ok": errors[worst] <= TOLERANCE, "checks": len(errors), "worst": worst, "error": errors[worst]}


def error_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a part of the largest number expected."""
    return float((found.cpu().double() - expected.double()).abs().max() / expected.double().abs().max())


@torch.inference_mode()
def logits(model: DIFFAModel, golden: dict[str, torch.Tensor]) -> dict[str, float]:
    llm, device = model.llm_model, model.device
    ids, mask = golden["llada.input_ids"].to(device), golden["llada.attention_mask"]
    errors = {"without padding": error_of(llm.project(llm(llm.embed(ids))), golden["llada.logits"])}
    real, padded = mask.bool(), llm.project(llm(llm.embed(ids), mask.to(device))).cpu()
    return errors | {"with padding": error_of(padded[real], golden["llada.logits_masked"][real])}


def speech(model: DIFFAModel, golden: dict[str, torch.Tensor], clips: list) -> dict[str, float]:
    errors = {}
    for model.stage in (1, 2):
        embeds, lengths = model.get_speech_features(clips)
        for index, length in enumerate(lengths.tolist()):
            expected = golden[f"clip{index}.speech_stage{model.stage}"][0]
            errors[f"clip {index}, stage {model.stage}"] = error_of(embeds[index, :length], expected)
    return errors


def losses(
    device: torch.device, golden: dict[str, torch.Tensor], cases: dict[str, Any], clips: list
) -> dict[str, float]:
    errors = {}
    for case in cases["loss"]:
        model = load(device, torch.float32)  # its gradients begin at nothing; in evaluation mode nothing is dropped out
        model.prepare_training(case["stage"])
        loss = model(**{name: tensor.to(device) for name, tensor in batch_of(case, golden, model, clips).items()}).loss
        loss.backward()
        errors[case["key"]] = abs(loss.item() / case["loss"] - 1)
        for name, norm in case["grad_norms"].items():
            errors[f"{case['key']}, {name}"] = abs(model.get_parameter(name).grad.norm().item() / norm - 1)
    return errors


def batch_of(
    case: dict[str, Any], golden: dict[str, torch.Tensor], model: DIFFAModel, clips: list
) -> dict[str, torch.Tensor]:
    """A golden training batch, with the published code's masks."""
    key = case["key"]
    features, feature_mask = log_mel(model.feature_extractor, [clips[case["clip"]]] * len(case["items"]))
    input_ids = golden[f"{key}.input_ids"]
    return {
        "input_features": features,
        "feature_attention_mask": feature_mask,
        "input_ids": input_ids,
        "labels": golden[f"{key}.labels"],
        "t": golden[f"{key}.t"][:, 0],
        "audio_position": torch.full((len(input_ids),), AUDIO_POSITION),
        "text_attention_mask": torch.ones_like(input_ids),
        "num_answer_tokens": torch.tensor(input_ids.numel() - case["num_prompt_tokens"]),
    }


def generations(
    model: DIFFAModel, golden: dict[str, torch.Tensor], cases: dict[str, Any], clips: list, exactly: bool
) -> dict[str, Any]:
    same = total = 0
    for case in cases["generate"]:
        model.stage = case["stage"]
        options = GenerationOptions(**{name: case[name] for name in SETTINGS})
        ids = model.generate([clips[case["clip"]]], [case["question"]], options, return_ids=True)
        expected = golden[f"{case['key']}.answer_ids"]
        same, total = same + int((ids == expected).sum()), total + expected.numel()
    return {"same_tokens": same, "tokens": total} | ({"ok": same == total} if exactly else {})


def diffa2_speech(
    models: dict[str, DIFFAModel], figures: dict[str, torch.Tensor], cases: dict[str, Any], clips: list
) -> dict[str, float]:
    errors = {}
    for case in cases["speech"]:
        model = models[case["checkpoint"]]
        model.stage = case["stage"]
        embeds, _ = model.get_speech_features([clips[case["clip"]]])
        errors[case["key"]] = error_of(embeds[0], figures[case["key"]][0])
    return errors


def diffa2_generations(
    models: dict[str, DIFFAModel], figures: dict[str, torch.Tensor], cases: dict[str, Any], clips: list
) -> dict[str, Any]:
    """Fixed steps, and the published fast mode, whose number of passes must agree as well."""
    same = total = passes = expected_passes = 0
    for case in cases["generate"]:
        model = models[case["checkpoint"]]
        model.stage = case["stage"]
        settings = {name: case[name] for name in DIFFA2_SETTINGS}
        options = GenerationOptions.of_preset("fast_dllm" if case["mode"] == "fast" else "exact", **settings)
        answers = model.answer([clips[case["clip"]]], [case["question"]], options)
        expected = figures[f"{case['key']}.answer_ids"]
        same, total = same + int((answers.ids == expected).sum()), total + expected.numel()
        passes, expected_passes = passes + answers.forward_passes[0], expected_passes + case["forward_passes"]
    return {"same_tokens": same, "tokens": total, "ok": (same, passes) == (total, expected_passes)}


def diffa2_losses(
    device: torch.device, figures: dict[str, torch.Tensor], cases: dict[str, Any], clips: list
) -> dict[str, float]:
    """Of fine-tuning and of preference optimisation, LoRA factors included."""
    errors = {}

    def fine_tuning(case: dict[str, Any], waveforms: list) -> tuple[DIFFAModel, torch.Tensor]:
        model = diffa2_api.load_trainable(GOLDEN2, case["checkpoint"], device)
        return model, diffa2_api.sft_loss(model, waveforms, diffa2_api.sft_batch(figures, case, device))

    def preferring(case: dict[str, Any], waveforms: list) -> tuple[DIFFAModel, torch.Tensor]:
        policy, other = (diffa2_api.load_trainable(GOLDEN2, case[who], device) for who in ("policy", "reference"))
        batch = diffa2_api.vrpo_batch(figures, case, device)
        return policy, diffa2_api.vrpo_loss(policy, other, waveforms, batch, case["beta"])["loss"]

    for kind, loss_of in (("sft", fine_tuning), ("vrpo", preferring)):
        for case in cases[kind]:
            if case["informational"]:  # the published code attends to padding there (docs/differences.md)
                continue
            model, loss = loss_of(case, [clips[index] for index in case["clips"]])
            loss.backward()
            errors[case["key"]] = abs(loss.item() / case["loss"] - 1)
            for name, norm in case["grad_norms"].items():
                if name != "all trainable":
                    errors[f"{case['key']}, {name}"] = abs(diffa2_api.grad_norm(model, name) / norm - 1)
    return errors

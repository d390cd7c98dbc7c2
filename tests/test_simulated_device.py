"""Decoding and losses on a device that is not the CPU: the CPU's figures, nothing mixed, few waits.

What a test asks `simulated` to call runs in a process that knows the device, and hands back CPU tensors and figures.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from random import Random

import pytest
import torch

from src.audio import read_audio
from src.configuration_DIFFA import STAGES
from src.dataloader import DIFFACollator, DIFFADataset
from src.generation_options import GenerationOptions
from src.llm_generate import Prompt, decode
from src.lora import LORA_TARGETS, Factors, LoRA, is_factor, new_lora
from src.manifest import Sample
from src.modeling_DIFFA import DIFFAModel
from src.splice import splice
from tests.conftest import GOLDEN
from tests.simulated_device import NAME, simulated_device
from tests.src.test_llm_generate import random_llm, random_prompts, together

SFT_STAGES = (1, 2, 3)  # the fourth learns from pairs

QUESTIONS = ["hello", "What can you hear from the audio?", "Is the speaker male?"]
TO_DEVICE, TO_CPU = "copy to the device", "copy to the CPU"


def clips() -> list:
    return [read_audio(GOLDEN / f"clip{index}.wav") for index in range(3)]


@contextmanager
def on(device: str) -> Iterator[list[str]]:
    """The simulated device and what it waits for, or the CPU, which waits for nothing."""
    if device == NAME:
        with simulated_device() as simulation:
            yield simulation.waits
    else:
        yield []


def load(device: str) -> DIFFAModel:
    """The golden checkpoint; on the simulated device, inside `simulated_device` alone."""
    return DIFFAModel.from_pretrained(
        GOLDEN / "diffa_upstream", llm_path=GOLDEN / "llada", whisper_path=GOLDEN / "whisper", device=device
    )


golden_model = cache(load)  # for those who do not change it but for its stage


# -- the device itself -------------------------------------------------------------------------------------------------


def refusals() -> dict[str, str]:
    """What operations on tensors of two devices say."""
    attempts = {
        "sum": lambda x, y: x + y,
        "sum in place": lambda x, y: x.add_(y),
        "index": lambda x, y: x[y.long()],
        "join": lambda x, y: torch.cat((x, y)),
        "where": lambda x, y: torch.where(x > 0, x, y),
        "number": lambda x, y: x + y[0],
        "copy": lambda x, y: x.copy_(y),
    }
    said = {}
    with simulated_device():
        for name, attempt in attempts.items():
            for inference in (False, True):
                with torch.inference_mode(inference):
                    x, y = torch.ones(3, device=NAME), torch.ones(3)
                    try:
                        said[name] = attempt(x, y).device.type
                    except RuntimeError as error:
                        said[name] = str(error)
    return said


def test_what_cuda_refuses_is_refused(simulated):
    said = simulated(refusals)
    for name in ("sum", "sum in place", "index", "join", "where"):
        assert "tensors on the device meet CPU tensors of shapes [(3,)]" in said[name]
    assert said["number"] == said["copy"] == NAME


def waits() -> dict[str, list[str]]:
    """What operations wait for."""
    attempts = {
        "arithmetic": lambda x: (x.exp() + 1).cumsum(0).sort().values.masked_fill(x > 0, 0)[:2],
        "made there": lambda x: torch.arange(3, device=NAME) + torch.zeros_like(x),
        "index": lambda x: x[torch.arange(2, device=NAME)],
        "item": lambda x: x[0].item(),
        "truth": lambda x: bool((x > 0).all()),
        "list": lambda x: x.tolist(),
        "nonzero": lambda x: x.nonzero(as_tuple=True),
        "boolean index": lambda x: x[x > 0],
        "boolean index, put": lambda x: x.__setitem__(x > 0, x.exp()),
        "number put": lambda x: x.__setitem__(torch.arange(2, device=NAME), 1.0),
        "to the CPU": lambda x: x.cpu() + torch.ones(3),
        "to the device": lambda x: torch.tensor([1.0, 2.0, 3.0], device=NAME) + x,
    }
    found = {}
    with simulated_device() as device:
        for name, attempt in attempts.items():
            for inference in (False, True):
                with torch.inference_mode(inference):
                    x = torch.ones(3, device=NAME)
                    device.waits.clear()
                    attempt(x)
                    assert found.setdefault(name, list(device.waits)) == device.waits
    return found


def test_what_a_gpu_waits_for_is_noted(simulated):
    assert simulated(waits) == {
        "arithmetic": [],
        "made there": [],
        "index": [],
        "item": ["_local_scalar_dense"],
        "truth": ["_local_scalar_dense"],
        "list": [TO_CPU],
        "nonzero": ["nonzero"],
        "boolean index": ["nonzero"],
        "boolean index, put": ["nonzero"],
        "number put": [],
        "to the CPU": [TO_CPU],
        "to the device": [TO_DEVICE],
    }


# -- decoding ----------------------------------------------------------------------------------------------------------

MODES = {
    "exact": {},
    "prefix": {"cache": "prefix"},
    "dual": {"cache": "dual", "refresh_interval": 3},
    "threshold": {"threshold": 0.5},
    "factor": {"factor": 1.0, "cache": "dual"},
    "temperature": {"temperature": 0.7, "seed": 3},
    "random": {"remasking": "random", "seed": 3},
    "guidance": {"cfg_scale": 0.5, "cache": "prefix"},
    "early stop": {"stop_at_eos": True},
    "end in a block": {"factor": 1.0, "last_rank": True, "stop_at_eos": True, "stop_in_block": True},
    "early stop, everything": {
        "stop_at_eos": True, "cache": "dual", "threshold": 0.5, "temperature": 0.7, "cfg_scale": 0.5, "seed": 3,
    },
}  # fmt: skip
# What decoding may wait for, at most.
CALL = 1  # is anything padded? Without a mask, attention is faster
STEP = 1  # which positions are masked: so many rows of logits there will be
DRAWING_STEP = 1  # of these, how many are each sample's, which draws for them alone; one sample knows
PARALLEL_BLOCK = 1  # a look that finds nothing masked any more
STOPPING_BLOCK = 2  # which answers have not ended; if some have, whose generators go on


@dataclass(frozen=True)
class Decoded:
    """An answer's end, and what was waited for."""

    ids: torch.Tensor  # [B, max_new_tokens]
    confidence: torch.Tensor
    forward_passes: torch.Tensor  # [B]
    waits: list[list[str]]  # before each yield of `decode`, and after the last; the first yield ends the first step


def decoded(options: GenerationOptions, device: str) -> Decoded:
    """Four answers of a random model to prompts of different lengths."""
    prompt, llm = together(random_prompts(Random(4), 4)), random_llm(mask_wins=False)
    with on(device) as waits:
        llm.to(device)
        embeds, mask, unconditional = prompt.inputs_embeds, prompt.attention_mask, prompt.unconditional_embeds
        prompt = Prompt(embeds.to(device), mask.to(device), unconditional.to(device))
        waits.clear()
        waited = []
        for progress in decode(llm, prompt, options):  # noqa: B007
            waited.append(list(waits))
            waits.clear()
        waited.append(list(waits))
        return Decoded(progress.answer_ids.cpu(), progress.confidence.cpu(), progress.forward_passes.cpu(), waited)


@pytest.mark.parametrize("mode", MODES)
def test_decoding_gives_the_cpus_tokens_in_few_waits(simulated, mode):
    options = GenerationOptions(steps=12, block_length=4, max_new_tokens=12, **MODES[mode])
    here, there = decoded(options, "cpu"), simulated(decoded, options, NAME)
    assert torch.equal(there.ids, here.ids) and torch.equal(there.forward_passes, here.forward_passes)
    torch.testing.assert_close(there.confidence, here.confidence, rtol=1e-4, atol=1e-5)
    step = STEP + DRAWING_STEP * options.draws
    block = PARALLEL_BLOCK * options.parallel + STOPPING_BLOCK * options.stop_at_eos
    counts = [len(waits) for waits in there.waits]
    assert counts[0] == CALL + step
    assert sorted(counts)[len(counts) // 2] == step  # most steps wait for nothing else
    assert sum(counts) <= CALL + step * (len(counts) - 1) + block * options.num_blocks


def answered(device: str) -> tuple[list[str], dict[str, int]]:
    """Three answers of the golden model in four steps, from the waveforms on: texts, and what was waited for."""
    with on(device) as waits:
        model = golden_model(device)
        model.stage = 2
        waits.clear()
        texts = model.generate(clips(), QUESTIONS, GenerationOptions(steps=4, block_length=4, max_new_tokens=4))
        return texts, dict(Counter(waits))


def test_a_whole_answer_waits_for_little_besides_its_steps(simulated):
    texts, waits = simulated(answered, NAME)
    assert texts == answered("cpu")[0]
    assert waits == {
        TO_DEVICE: 5,  # log-mel and its mask; token ids, their padding, the audio's place
        "_local_scalar_dense": 3 + CALL,  # the longest audio, in the encoder, in the semantic adapter and after it
        "nonzero": 4 * STEP,
        TO_CPU: 2,  # answers and passes
    }


# -- losses ------------------------------------------------------------------------------------------------------------


def training_batch() -> dict[str, torch.Tensor]:
    """Three clips of different lengths, as the collator returns them."""
    model = golden_model("cpu")
    targets = ["one two", "the speaker is male", "nine"]
    samples = [
        Sample(f"clip{index}", GOLDEN / f"clip{index}.wav", question, target, "", "golden", duration=1.0, extra={})
        for index, (question, target) in enumerate(zip(QUESTIONS, targets, strict=True))
    ]
    config, examples = model.llm_model.config, DIFFADataset(samples, model.tokenizer)
    torch.manual_seed(0)
    collate = DIFFACollator(model.feature_extractor, config.mask_token_id, config.pad_token_id, learn_padding=False)
    return collate([examples[index] for index in range(3)])


def some_lora() -> LoRA:
    """Factors that change the LLM; PEFT puts them beside its weights."""
    random = torch.Generator().manual_seed(0)
    new = new_lora(golden_model("cpu").llm_model, 4, None, LORA_TARGETS)
    factors = {
        name: Factors(torch.randn(f.a.shape, generator=random) / 8, torch.randn(f.b.shape, generator=random) / 8)
        for name, f in new.factors.items()
    }
    return LoRA(factors)


def loss_and_gradients(
    stage: int, checkpointing: bool, device: str
) -> tuple[float, dict[str, torch.Tensor], dict[str, int]]:
    """Of one batch; and what a training step waited for, the batch being on the device."""
    batch = training_batch()
    with on(device) as waits:
        model = load(device)
        if STAGES[stage].lora:
            model.attach_lora(some_lora())
        model.prepare_training(stage)
        if checkpointing:
            model.gradient_checkpointing_enable()
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        waits.clear()
        loss = model(**batch).loss
        loss.backward()
        waited = dict(Counter(waits))
        gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
        return loss.item(), gradients, waited


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stage", SFT_STAGES)
def test_losses_and_gradients_are_the_cpus(simulated, stage, checkpointing):
    loss, gradients, _ = loss_and_gradients(stage, checkpointing, "cpu")
    loss_there, gradients_there, waits = simulated(loss_and_gradients, stage, checkpointing, NAME)
    assert loss_there == pytest.approx(loss, rel=1e-6)
    assert gradients and gradients_there.keys() == gradients.keys()
    assert any(map(is_factor, gradients)) == STAGES[stage].lora
    for name, gradient in gradients.items():
        difference = gradients_there[name] - gradient
        assert difference.norm() <= 1e-4 * gradient.norm() + 1e-6, name
    assert waits == {
        "nonzero": 1,  # which positions are masked
        "_local_scalar_dense": 5,  # longest audio, three times as above; first masked column; is anything padded?
    }


# -- parts -------------------------------------------------------------------------------------------------------------


def speech_features(stage: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    with on(device):
        model = golden_model(device)
        model.stage = stage
        embeds, lengths = model.get_speech_features(clips())
        return embeds.cpu(), lengths.cpu()


@pytest.mark.parametrize("stage", SFT_STAGES)
def test_the_adapters_hear_the_same(simulated, stage):
    (here, lengths), (there, lengths_there) = speech_features(stage, "cpu"), simulated(speech_features, stage, NAME)
    assert torch.equal(lengths_there, lengths)
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def spliced(side: str, device: str) -> tuple[tuple[torch.Tensor, ...], list[str]]:
    torch.manual_seed(0)
    text, audio = torch.randn(3, 6, 4), torch.randn(3, 5, 4)
    with on(device) as waits:
        text, audio, text_mask = text.to(device), audio.to(device), torch.ones(3, 6, device=device)
        lengths, position = torch.tensor([5, 2, 0], device=device), torch.tensor([1, 6, 3], device=device)
        waits.clear()
        result = splice(text, text_mask, audio, lengths, position, side)
        waited = list(waits)
        return tuple(x.cpu() for x in (result.inputs_embeds, result.attention_mask, result.text_columns)), waited


@pytest.mark.parametrize("side", ["left", "right"])
def test_splicing_waits_for_nothing(simulated, side):
    there, waited = simulated(spliced, side, NAME)
    assert all(map(torch.equal, there, spliced(side, "cpu")[0])) and waited == []


def with_lora(device: str) -> tuple[list[str], set[str]]:
    """An answer of a checkpoint whose LoRA factors are merged while the LLM loads, and where its weights are."""
    folder = GOLDEN.parent / "golden2"
    with on(device):
        model = DIFFAModel.from_pretrained(
            folder / "diffa2_stage3", llm_path=folder / "llada", whisper_path=folder / "whisper", device=device
        )
        texts = model.generate(clips()[:1], QUESTIONS[:1], GenerationOptions(steps=4, block_length=4, max_new_tokens=4))
        return texts, {x.device.type for x in chain(model.parameters(), model.buffers())}


def test_lora_factors_are_merged_on_the_device(simulated):
    texts, places = simulated(with_lora, NAME)
    assert texts == with_lora("cpu")[0] and places == {NAME}


def places() -> set[str]:
    with simulated_device():
        model = golden_model(NAME)
        return {str(x.device) for x in chain(model.parameters(), model.buffers())}


def test_a_model_loads_onto_the_device_whole(simulated):
    assert simulated(places) == {f"{NAME}:0"}

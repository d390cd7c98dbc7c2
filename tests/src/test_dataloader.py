from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.audio import AudioError
from src.data_sampler import Draw
from src.dataloader import ORIGIN, DIFFACollator, DIFFADataset, Origin, OriginCollator
from src.manifest import ManifestError, Sample
from src.masked_diffusion import Masking
from src.prompts import SYSTEM_PROMPTS, build_prompt, tokenize_prompt
from tests.conftest import GOLDEN

MASK_ID, PAD_ID = 402, 401


def sample(clip: int = 0, target: str = "one two", instruction: str = "hello") -> Sample:
    path = GOLDEN / f"clip{clip}.wav"
    return Sample(f"clip{clip}", path, instruction, target, "", "golden", 1.0, {})


@pytest.fixture
def dataset(model):
    samples = [sample(0), sample(1, "the speaker is male"), sample(2, "yes", "What can you hear from the audio?")]
    return DIFFADataset(samples, model.tokenizer)


@pytest.fixture
def collator(model):
    return DIFFACollator(model.feature_extractor, MASK_ID, PAD_ID)


def test_an_example_is_prompt_answer_and_end_of_turn(model, dataset):
    example = dataset[1]
    assert (example.prompt_ids, example.audio_position) == tokenize_prompt(model.tokenizer, build_prompt("hello"))
    assert model.tokenizer.decode(example.answer_ids) == "the speaker is male<|eot_id|>"
    assert len(example.waveform) == 2.3 * 16000


def test_each_conversation_begins_with_the_system_prompt_it_is_given(model, dataset):
    long = DIFFADataset(dataset.samples, model.tokenizer, system_prompt=SYSTEM_PROMPTS["long"])[0]
    expected = build_prompt("hello", SYSTEM_PROMPTS["long"])
    assert (long.prompt_ids, long.audio_position) == tokenize_prompt(model.tokenizer, expected)
    assert model.tokenizer.decode(long.prompt_ids).count("Imagine you can hear the audio clips.") == 1
    assert long.answer_ids == dataset[0].answer_ids


def test_a_batch_has_the_contracts_keys_shapes_and_types(dataset, collator):
    examples = [dataset[i] for i in range(3)]
    batch = collator(examples)
    length = max(len(e.prompt_ids) + len(e.answer_ids) for e in examples)
    shapes = {key: tuple(value.shape) for key, value in batch.items()}
    assert shapes == {
        "input_features": (3, 80, 3000), "feature_attention_mask": (3, 3000), "input_ids": (3, length),
        "labels": (3, length), "t": (3,), "audio_position": (3,), "text_attention_mask": (3, length),
        "num_answer_tokens": (),
    }  # fmt: skip
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    assert batch["audio_position"].tolist() == [28, 28, 28]
    assert batch["num_answer_tokens"] == sum(length - len(e.prompt_ids) for e in examples)
    assert batch["text_attention_mask"].all()


def test_masked_tokens_and_labels_fit_together(dataset, collator):
    examples = [dataset[i] for i in (0, 1, 2)]
    for _ in range(20):
        batch = collator(examples)
        masked = batch["labels"] != -100
        assert torch.equal(batch["input_ids"] == MASK_ID, masked)
        clean = torch.where(masked, batch["labels"], batch["input_ids"])
        for row, example in enumerate(examples):
            ids = example.prompt_ids + example.answer_ids
            assert clean[row].tolist() == ids + [PAD_ID] * (clean.shape[1] - len(ids))
            assert not masked[row, : len(example.prompt_ids)].any()


def test_without_learned_padding_it_is_hidden_and_not_counted(model, dataset):
    collator = DIFFACollator(model.feature_extractor, MASK_ID, PAD_ID, learn_padding=False)
    examples = [dataset[0], dataset[1]]
    for _ in range(20):
        batch = collator(examples)
        assert batch["num_answer_tokens"] == sum(len(e.answer_ids) for e in examples)
        for row, example in enumerate(examples):
            length = len(example.prompt_ids) + len(example.answer_ids)
            padding = batch["input_ids"].shape[1] - length
            assert batch["text_attention_mask"][row].tolist() == [1] * length + [0] * padding
            assert (batch["labels"][row, length:] == -100).all()


@pytest.mark.parametrize("learn_padding", [True, False])
def test_a_batch_made_longer_is_as_if_a_longer_one_had_been_in_it(model, dataset, learn_padding):
    collate = OriginCollator(DIFFACollator(model.feature_extractor, MASK_ID, PAD_ID, learn_padding))
    short, long = [replace(dataset[i], masking=Masking(0.6, 7 + i)) for i in (0, 2)], dataset[1]
    long = replace(long, masking=Masking(0.5, 9), answer_ids=long.answer_ids * 9)
    batch, expected = collate(short), collate([*short, long])
    length, counted = expected["input_ids"].shape[1], expected["num_answer_tokens"] - len(long.answer_ids)
    assert batch["input_ids"].shape[1] < length
    collate.collate.lengthen(batch, length)
    if not learn_padding:
        assert torch.equal(batch["input_ids"], collate(short)["input_ids"])
        return
    for name in ("input_ids", "labels", "text_attention_mask"):
        assert torch.equal(batch[name], expected[name][:2]), name
    assert batch["num_answer_tokens"] == counted


def test_masks_are_a_function_of_the_masking_alone(dataset, collator):
    examples = [replace(dataset[i], masking=Masking(0.5, 7 + i)) for i in range(3)]
    torch.manual_seed(0)
    first = collator(examples)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    again = collator(examples)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert torch.allclose(first["t"], torch.tensor(0.5 * 0.999 + 1e-3))
    assert torch.equal(collator([examples[2], examples[1]])["labels"], first["labels"][[2, 1]])
    other = collator([replace(example, masking=Masking(0.5, 1)) for example in examples])
    assert not torch.equal(other["labels"], first["labels"])
    # without one, torch's global random state decides
    unmasked = [replace(example, masking=None) for example in examples]
    torch.manual_seed(0)
    drawn = [collator(unmasked)["t"] for _ in range(2)]
    torch.manual_seed(0)
    assert torch.equal(collator(unmasked)["t"], drawn[0]) and not torch.equal(*drawn)


def test_another_sample_takes_the_place_of_one_that_cannot_be_read(model):
    gone = Sample("gone", Path("/nowhere/x.wav"), "hello", "a", "", "golden", 1.0, {})
    dataset = DIFFADataset([gone, sample(0), sample(1)], model.tokenizer)
    draw = Draw(0, Masking(0.25, 3))
    example = dataset[draw]
    assert example.audio_id in ("clip0", "clip1") and example.masking == draw.masking
    assert set(example.failures) == {"/nowhere/x.wav: no such audio file"}
    assert dataset[draw].audio_id == example.audio_id
    assert {dataset[Draw(0, Masking(0.25, seed))].audio_id for seed in range(20)} == {"clip0", "clip1"}
    sound = dataset[Draw(1, Masking(0.25, 3))]
    assert sound.audio_id == "clip0" and sound.failures == ()
    with pytest.raises(AudioError, match=r"11 clips in a row cannot be used; the last one: /nowhere/x\.wav: no such"):
        DIFFADataset([gone], model.tokenizer)[draw]


def test_so_it_does_of_one_whose_prompt_is_too_long(model):
    long = Sample("long", GOLDEN / "clip0.wav", "word " * 100, "a", "", "golden", 1.0, {})
    dataset = DIFFADataset([long, sample(0)], model.tokenizer, max_length=100)
    example = dataset[Draw(0, Masking(0.25, 3))]
    assert example.audio_id == "clip0" and "sample long: its prompt has" in example.failures[0]


def test_a_batch_says_where_it_comes_from(model, dataset, collator):
    gone = Sample("gone", Path("/nowhere/x.wav"), "hello", "a", "", "golden", 1.0, {})
    dataset = DIFFADataset([*dataset.samples, gone], model.tokenizer)
    examples = [dataset[Draw(1, Masking(0.5, 4))], dataset[Draw(3, Masking(0.5, 5))], dataset[2]]
    replacement = examples[1].audio_id
    batch = OriginCollator(collator)(examples)
    origin = batch.pop(ORIGIN)
    assert origin == Origin(
        ["clip1", replacement, "clip2"], list(examples[1].failures), [1, None, 2],
        [len(e.answer_ids) for e in examples], [Masking(0.5, 4), Masking(0.5, 5), None],
    )  # fmt: skip
    assert set(batch) == set(collator(examples)) and "/nowhere/x.wav: no such audio file" in origin.failures


def test_lengths_are_estimated_without_reading_audio(model):
    def long(duration: float, target: str) -> Sample:
        return Sample("x", Path("/nowhere"), "12345678", target, "", "golden", duration, {})

    dataset = DIFFADataset([long(8.0, "x" * 92), long(99.0, "")], model.tokenizer, max_seconds=16)
    assert dataset.lengths() == [100 + 25, 200 + 2]


def test_long_answers_are_cut_and_long_prompts_named(model):
    dataset = DIFFADataset([sample(0, "word " * 100)], model.tokenizer, max_length=60)
    example = dataset[0]
    assert len(example.prompt_ids) + len(example.answer_ids) == 60
    tight = DIFFADataset([sample(0)], model.tokenizer, max_length=len(example.prompt_ids))
    with pytest.raises(ManifestError, match=r"sample clip0: its prompt has 44 tokens.*max_length 44"):
        tight[0]


def test_audio_is_cut_at_the_limit_and_missing_audio_named(model):
    assert len(DIFFADataset([sample(2)], model.tokenizer, max_seconds=2)[0].waveform) == 32000
    gone = Sample("x", Path("/nowhere/x.wav"), "hello", "a", "", "golden", 1.0, {})
    with pytest.raises(AudioError, match=r"/nowhere/x\.wav: no such audio file"):
        DIFFADataset([gone], model.tokenizer)[0]

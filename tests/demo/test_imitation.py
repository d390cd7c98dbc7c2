"""The miniature LLaDA: its tokenizer, what it is pretrained on, and what the checkpoint in the repository can do."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from demo import world
from demo.imitation import BATCH_TOKENS, FILLER, LAST_SHARES, Imitator
from demo.pretrain_llada import accuracy, scaled_state
from demo.tokenizer import build_tokenizer
from src.modeling_llada import LLaDAModel
from src.prompts import END_OF_TURN, build_prompt, tokenize_prompt

ASSET = Path(__file__).resolve().parents[2] / "demo" / "assets" / "llada"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def llada() -> LLaDAModel:
    return LLaDAModel.from_pretrained(ASSET, torch_dtype=torch.float32)


def test_every_word_is_one_token_and_texts_survive(tokenizer):
    for word in world.SPOKEN_WORDS:
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word
    text = "Another voice: 12 näïve words?\n\nA. x\nB. y"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_an_answer_has_the_same_tokens_with_its_prompt_and_alone(tokenizer):
    imitator = Imitator(tokenizer, random.Random(1), test=False)
    for task in ("asr", "open", "mmsu", "mmau", "voicebench"):
        for _ in range(20):
            item = imitator.item(task)
            prompt, answer = build_prompt(item.instruction), item.answer + END_OF_TURN
            together = tokenizer.encode(prompt + answer, add_special_tokens=False)
            apart = [tokenizer.encode(text, add_special_tokens=False) for text in (prompt, answer)]
            assert together == apart[0] + apart[1], item.answer


def test_the_audio_goes_before_a_token_that_covers_the_space(tokenizer):
    ids, index = tokenize_prompt(tokenizer, build_prompt("What can you hear from the audio?"))
    assert tokenizer.decode([ids[index]]) == " <audio>"
    assert len(ids) < 20  # the fixed phrases are one token each


def test_training_samples_hold_no_test_sentence_and_fit_the_window(tokenizer):
    imitator = Imitator(tokenizer, random.Random(2), test=False)
    for task in LAST_SHARES:
        texts = [imitator.item(task).scene.text for _ in range(200)]
        spoken = [text for text in texts if " " in text]  # lookups say one word at most
        assert not any(map(world.is_test_sentence, spoken))
    for batch in imitator.pool(200, difficulty=1.0, shares=LAST_SHARES):
        assert len(batch) * max(len(sample.ids) for sample in batch) <= BATCH_TOKENS
        for sample in batch:
            assert sum(blend >= 0 for blend in sample.blends) <= 64 + 50


def test_hints_name_the_letter_of_every_option(tokenizer):
    imitator = Imitator(tokenizer, random.Random(3), test=False)
    for task in ("mmsu", "voicebench"):
        for _ in range(50):
            sample = imitator.sample(task, difficulty=1.0)
            if task == "voicebench" and sample.category != "openbookqa":
                assert not any(sample.letters)
                continue
            letters = {tokenizer.decode([letter]) for letter in sample.letters if letter}
            rights = {tokenizer.decode([right]) for right in sample.rights if right} - {tokenizer.eos_token}
            answer = tokenizer.decode([sample.ids[sample.answer_start]])
            assert letters == set("ABCD") and rights == {answer}
            assert all(sample.ids[i] != FILLER for i, letter in enumerate(sample.letters) if letter)


def test_scaling_the_residual_stream_changes_no_logit(llada):
    ids = torch.randint(0, 500, (2, 12), generator=torch.Generator().manual_seed(1))
    before = llada.project(llada(inputs_embeds=llada.embed(ids)))
    words = list(range(300, 400))
    scaled = LLaDAModel(llada.config)
    scaled.load_state_dict(scaled_state(llada, words))
    after = scaled.project(scaled(inputs_embeds=scaled.embed(ids)))
    assert scaled.embedding_weight[words].square().mean().sqrt().item() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_the_shipped_checkpoint_is_the_script_s_and_small(tokenizer, llada):
    assert AutoTokenizer.from_pretrained(ASSET).get_vocab() == tokenizer.get_vocab()
    words = [tokenizer.convert_tokens_to_ids(f"Ġ{word}") for word in world.SPOKEN_WORDS]
    assert llada.embed(torch.tensor(words)).square().mean().sqrt().item() == pytest.approx(1.0, abs=0.01)
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 4e6
    assert {"seed", "step", "seconds", "loss", "accuracy"} <= json.loads(
        (ASSET / "pretraining.json").read_text()
    ).keys()


def test_the_shipped_checkpoint_answers_clean_imitations_of_unseen_sentences(tokenizer, llada):
    torch.manual_seed(4)
    examiner = Imitator(tokenizer, random.Random(4), test=True)
    shares = {"mmsu": 0.4, "mmau": 0.3, "voicebench": 0.3}
    scores = accuracy(llada, examiner.pool(200, difficulty=0.5, shares=shares), tokenizer.pad_token_id, noise=0.2)
    assert min(scores[task] for task in shares) > 0.9, scores

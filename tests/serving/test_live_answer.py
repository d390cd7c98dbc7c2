from itertools import pairwise

import pytest

from serving.live_answer import has_end, live_answers, token_texts
from src.generation_options import GenerationOptions

MASK = 402  # of the golden LLM


@pytest.mark.parametrize("key", ["gen0", "gen1", "gen2"])
def test_the_last_draft_is_what_generate_gives(model, clips, golden_cases, key):
    case = next(case for case in golden_cases["generate"] if case["key"] == key)
    options = GenerationOptions(case["steps"], case["block_length"], case["max_new_tokens"])
    steps = list(live_answers(model, clips[case["clip"]], case["question"], options))
    answers = model.answer([clips[case["clip"]]], [case["question"]], options)
    assert steps[-1].text == answers.texts[0] == case["text"]
    assert [step.forward_passes for step in steps] == list(range(1, answers.forward_passes[0] + 1))


def test_masks_turn_into_tokens_and_each_keeps_its_confidence(model, clips):
    steps = list(live_answers(model, clips[0], "What can you hear from the audio?", GenerationOptions(4, 4, 4)))
    assert [sum(token.masked for token in step.tokens) for step in steps] == [3, 2, 1, 0]
    for before, after in pairwise(steps):
        for old, new in zip(before.tokens, after.tokens, strict=True):
            assert (old.text, old.confidence) == ("", 0) if old.masked else old.confidence == new.confidence
    assert all(0 < token.confidence <= 1 for token in steps[-1].tokens)


def test_an_end_token_ends_an_answer(model):
    tokenizer = model.tokenizer
    ids = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    assert not has_end(tokenizer, ids) and has_end(tokenizer, [*ids, tokenizer.eos_token_id])
    assert has_end(tokenizer, tokenizer("the cat<|eot_id|>", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("text", ["the cat  takes\nfour", "naïve 音声 🎧 ok", " a b "])
def test_shares_of_the_text_add_up(model, text):
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    shares = token_texts(model.tokenizer, ids, MASK)
    assert len(shares) == len(ids) > 3
    assert "".join(shares) == text
    assert all("\ufffd" not in share for share in shares)


def test_masks_and_end_tokens_have_no_text(model):
    ids = model.tokenizer("the cat", add_special_tokens=False)["input_ids"]
    eos = model.llm_model.config.eos_token_id
    shares = token_texts(model.tokenizer, [*ids, MASK, *ids, eos], MASK)
    assert "".join(shares) == "the cat" * 2
    assert shares[len(ids)] == shares[-1] == ""


def test_a_character_cut_by_a_mask_shows_as_unfinished(model):
    ids = model.tokenizer("🎧", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1  # bytes
    assert "".join(token_texts(model.tokenizer, [*ids[:-1], MASK], MASK)) == "\ufffd"

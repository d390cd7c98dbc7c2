import json
import random

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from src import prompts
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def tokenizer():
    return PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada")


def test_prompt_ids_and_splice_index_match_the_published_code(tokenizer, golden, golden_cases):
    for case in golden_cases["generate"]:
        ids, index = prompts.tokenize_prompt(tokenizer, prompts.build_prompt(case["question"]))
        assert ids == golden[f"{case['key']}.prompt_ids"][0].tolist()
        assert index == case["audio_insert_index"]


def test_training_texts_match_the_published_code(tokenizer, golden, golden_cases):
    for case in golden_cases["loss"]:
        for row, (question, answer) in enumerate(case["items"]):
            ids, _ = prompts.tokenize_prompt(tokenizer, prompts.build_prompt(question))
            ids += tokenizer(answer + prompts.END_OF_TURN, add_special_tokens=False)["input_ids"]
            clean = golden[f"{case['key']}.clean_input_ids"][row].tolist()
            assert clean[: len(ids)] == ids
            assert set(clean[len(ids) :]) <= {401}


def test_the_audio_goes_before_the_token_with_the_space(tokenizer):
    """Whichever way the tokenizer cuts: a token of its own, or the marker's first one."""
    prompt = prompts.build_prompt("hello")
    ids, index = prompts.tokenize_prompt(tokenizer, prompt)
    assert tokenizer.decode(ids[index:]).startswith(" <audio>. hello")
    assert tokenizer.decode(ids[:index]).endswith("This is the audio:")


def test_trimmed_offsets_give_the_same_place(tokenizer):
    """Some byte-level tokenizers report offsets without the leading space that a token has."""
    prompt = prompts.build_prompt("hello")
    expected = prompts.tokenize_prompt(tokenizer, prompt)
    trimmed = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada")
    trimmed.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    spans = trimmed(prompt, return_offsets_mapping=True)["offset_mapping"]
    assert not any(start <= prompt.index(" <audio>") < end for start, end in spans), "this tokenizer should trim"
    assert prompts.tokenize_prompt(trimmed, prompt) == expected


def test_a_prompt_without_marker_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="no ' <audio>' to put the audio at: 'hello'"):
        prompts.tokenize_prompt(tokenizer, "hello")


def test_the_marker_in_the_instruction_does_not_move_the_audio(tokenizer):
    plain = prompts.tokenize_prompt(tokenizer, prompts.build_prompt("hello"))[1]
    assert prompts.tokenize_prompt(tokenizer, prompts.build_prompt("what is <audio> here?"))[1] == plain


def test_template_has_no_break_between_turns():
    assert prompts.build_prompt("Hi?") == (
        "<|startoftext|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful voice assistant.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nThis is the audio: <audio>. Hi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_a_conversation_has_its_audio_in_one_turn(tokenizer):
    turns = (("user", "one"), ("assistant", "two"), ("user", "three <audio>"))
    for audio_turn, texts in ((0, ("This is the audio: <audio>. one", "three <audio>")),
                              (2, ("one", "This is the audio: <audio>. three <audio>"))):  # fmt: skip
        prompt = prompts.build_prompt(prompts.Conversation(turns, audio_turn))
        system, end = prompts.turn("system", prompts.SYSTEM_PROMPT), prompts.turn_header("assistant")
        middle = prompts.turn("user", texts[0]) + prompts.turn("assistant", "two") + prompts.turn("user", texts[1])
        assert prompt == f"<|startoftext|>{system}{middle}{end}"
        ids, index = prompts.tokenize_prompt(tokenizer, prompt)
        assert tokenizer.decode(ids[:index]).endswith("This is the audio:")
    assert prompts.build_prompt(prompts.Conversation((("user", "one"),), 0)) == prompts.build_prompt("one")
    with pytest.raises(ValueError, match="a turn before the one with the audio holds <audio>"):
        prompts.Conversation((("user", "an <audio>"), *turns), 3)


def test_benchmark_instructions_are_the_protocol():
    choices = ["one", None, "three", "four"]
    assert prompts.mmsu_instruction("Which?", choices) == (
        "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, "
        "**you should only choose A or B or C or D.** Do not provide any additional explanations or content.\n\n"
        "Question: Which?\n\n"
        "A. one\nC. three\nD. four"
    )
    assert prompts.mmau_instruction("Which?", choices[2:]) == (
        "You are given the audio and a multiple-choice question. Choose the best answer based only on the speech "
        "content and style.\n\nQuestion: Which?\n\nChoices:\nA. three\nB. four\nAnswer:"
    )
    assert json.dumps(prompts.VOICEBENCH_PROMPT) == (
        '"\\n### Instruction:\\nNow, strictly follow my instructions: \\n1. Do not repeat what you hear. \\n'
        '2. Write an answer to response the question in the audio.\\n\\n### Response:\\n"'
    )


def test_braces_in_a_question_stay():
    question = "".join(random.Random(0).sample("{}%s{choice_lines}", 18))
    assert f"Question: {question}\n" in prompts.mmsu_instruction(question, ["a"])


def test_the_system_prompt_can_be_chosen():
    assert prompts.build_prompt("Hi?", "Be brief.").startswith(
        "<|startoftext|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|"
    )
    assert prompts.system_prompt_of("short") == "You are a helpful voice assistant."
    assert prompts.system_prompt_of("long") == (
        "You are a helpful voice assistant. Imagine you can hear the audio clips. "
        "Focus on the audios and respond directly to the prompts."
    )
    assert prompts.system_prompt_of("Be brief.") == "Be brief."
    for text in ("hear <audio>", "<|eot_id|>"):
        with pytest.raises(ValueError, match=r"a system prompt must not hold '<(audio>|\|)', found"):
            prompts.system_prompt_of(text)

"""The chat template, the instructions of the benchmarks, and the place where the audio goes.

The strings are protocol: published checkpoints were trained and scored with exactly these, line breaks included.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from src.configuration_DIFFA import AUDIO_MARKER
from src.flag_types import text_flag

SYSTEM_PROMPT = "You are a helpful voice assistant."
SYSTEM_PROMPTS = {
    "short": SYSTEM_PROMPT,  # DIFFA's in training and inference, DIFFA-2's in inference
    "long": (  # DIFFA-2's in training
        "You are a helpful voice assistant. Imagine you can hear the audio clips. Focus on the audios and respond "
        "directly to the prompts."
    ),
}
USER_PREFIX = f"This is the audio: {AUDIO_MARKER}. "
END_OF_TURN = "<|eot_id|>"

ASR_PROMPT = "What can you hear from the audio?"
ASR_PROMPTS = {"diffa": ASR_PROMPT, "diffa2": "Please transcribe the audio to text."}  # by model family
MMSU_PROMPT = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, "
    "**you should only choose A or B or C or D.** Do not provide any additional explanations or content.\n\n"
    "Question: {question}\n\n{choice_lines}"
)
MMAU_PROMPT = (
    "You are given the audio and a multiple-choice question. Choose the best answer based only on the speech content "
    "and style.\n\nQuestion: {question}\n\nChoices:\n{choice_lines}\nAnswer:"
)
AIRBENCH_PROMPT = (  # the benchmark's own; a choice that is not there reads "None" in it
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, you may only "
    "choose A or B or C or D.\n{question}\n{choice_lines}"
)
VOICEBENCH_PROMPT = (
    "\n### Instruction:\nNow, strictly follow my instructions: \n1. Do not repeat what you hear. \n"
    "2. Write an answer to response the question in the audio.\n\n### Response:\n"
)
CHOICE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def choice_lines(choices: Sequence[str | None]) -> str:
    """`A. cat` and so on, joined by line breaks; a choice that is None is left out and keeps its letter."""
    return "\n".join(
        f"{letter}. {choice}" for letter, choice in zip(CHOICE_LETTERS, choices, strict=False) if choice is not None
    )


def mmsu_instruction(question: str, choices: Sequence[str | None]) -> str:
    """MMSU's instruction: the answer is to be one letter."""
    return MMSU_PROMPT.format(question=question, choice_lines=choice_lines(choices))


def mmau_instruction(question: str, choices: Sequence[str | None]) -> str:
    """MMAU's instruction: the answer is to be the text of a choice."""
    return MMAU_PROMPT.format(question=question, choice_lines=choice_lines(choices))


def airbench_instruction(question: str, choices: Sequence[str | None]) -> str:
    """AIR-Bench's instruction: the answer is to be one letter of four, "C. None" among them where there are two."""
    return AIRBENCH_PROMPT.format(question=question, choice_lines=choice_lines([str(choice) for choice in choices]))


@dataclass(frozen=True)
class Conversation:
    """Turns of a conversation about one clip, in place of a single instruction. Published checkpoints know no such.

    Raises ValueError where the first ` <audio>` of the prompt would not be the clip's.
    """

    turns: tuple[tuple[str, str], ...]  # (role, text): user and assistant; the last one is the user's
    audio_turn: int  # index of the user's turn that the clip is in

    def __post_init__(self) -> None:
        if any(AUDIO_MARKER in text for _, text in self.turns[: self.audio_turn]):
            raise ValueError(f"a turn before the one with the audio holds {AUDIO_MARKER}, the audio's place")


def turn(role: str, text: str) -> str:
    """One finished turn of a conversation."""
    return f"{turn_header(role)}{text}{END_OF_TURN}"


def turn_header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def build_prompt(instruction: str | Conversation, system_prompt: str = SYSTEM_PROMPT) -> str:
    """Everything before the answer, the assistant's header included; the answer follows without a space."""
    return turns_before_answer(instruction, system_prompt) + turn_header("assistant")


def turns_before_answer(instruction: str | Conversation, system_prompt: str = SYSTEM_PROMPT) -> str:
    """What the published code calls the prompt in training: the assistant's header belongs to the answer there."""
    asked = Conversation((("user", instruction),), 0) if isinstance(instruction, str) else instruction
    return "<|startoftext|>" + "".join(
        turn(role, USER_PREFIX * (index == asked.audio_turn) + text)
        for index, (role, text) in enumerate((("system", system_prompt), *asked.turns), start=-1)
    )


def system_prompt_of(choice: str) -> str:
    """A system prompt by its name in `SYSTEM_PROMPTS`, or as it is.

    Raises ValueError for a text that would take the place of the audio or end the turn.
    """
    text = SYSTEM_PROMPTS.get(choice, choice)
    for forbidden in (AUDIO_MARKER, "<|"):
        if forbidden in text:
            raise ValueError(f"a system prompt must not hold {forbidden!r}, found {choice!r:.200}")
    return text


def system_prompt_flag(text: str) -> str:
    """What `--system_prompt` stands for. Raises ArgumentTypeError."""
    try:
        return system_prompt_of(text_flag(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[list[int], int]:
    """Token ids of a prompt, and the index of the token before which the audio embeddings go.

    That is the token covering the space in front of the audio marker, found by character offsets because it may
    be a token of its own or belong to the marker's first one. The marker's text stays in the prompt.

    Raises ValueError when the prompt has no marker with a space before it.
    """
    space = prompt.find(f" {AUDIO_MARKER}")
    if space < 0:
        raise ValueError(f"the prompt has no ' {AUDIO_MARKER}' to put the audio at: {prompt!r}")
    encoding = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    # The first token that ends behind the space covers it, also where the tokenizer's offsets leave out leading spaces.
    index = next(index for index, (_, end) in enumerate(encoding["offset_mapping"]) if end > space)
    return encoding["input_ids"], index

"""The miniature LLaDA's tokenizer: byte-level BPE over the words of the miniature's world."""

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from demo import world
from src.configuration_DIFFA import AUDIO_MARKER
from src.prompts import ASR_PROMPT, END_OF_TURN, VOICEBENCH_PROMPT, build_prompt, mmau_instruction, mmsu_instruction

BOS, EOS, MASK = "<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"
SPECIAL_TOKENS = (BOS, EOS, MASK, "<|start_header_id|>", "<|end_header_id|>", END_OF_TURN)


def boilerplate() -> list[str]:
    """The long fixed phrases of all prompts. Each is one token, which keeps the miniature's prompts short."""
    question, choice = "{question}", "{choice}"
    templates = [build_prompt(ASR_PROMPT), build_prompt(VOICEBENCH_PROMPT)]
    templates += [build_prompt(make(question, (choice,))) for make in (mmsu_instruction, mmau_instruction)]
    cut = re.compile(rf"<\|\w+\|>|\s*{AUDIO_MARKER}\.|\s*\{{question\}}|\nA\. \{{choice\}}|\n\n$")
    phrases = {phrase for template in templates for phrase in cut.split(template)}
    return sorted((text.rstrip(" ") for text in phrases if len(text.split()) > 1 or ":" in text), key=len)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE in which every word of the world, with its leading space, is one token."""
    # A choice's mark ("\nB.") is one token; so is the break after a header, whatever the answer begins with.
    pieces = Regex(rf"\A\n\n|\n[A-D]\.| ?{AUDIO_MARKER}|\n| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    values = [v for kinds in world.ATTRIBUTES.values() for values in kinds.values() for v in values]
    words = [*world.SPOKEN_WORDS, *world.NUMBERS, *values, "voice", "system", "user", "assistant"]
    texts = [*words, *(f" {word}" for word in words), *(f" {text}" for text in world.QUESTIONS.values()), world.REFUSAL]
    texts += [f"x\n{letter}. " for letter in world.LETTERS] + [f" {AUDIO_MARKER}. ", "\n\n", *world.LETTERS]
    trainer = trainers.BpeTrainer(
        vocab_size=4000, min_frequency=1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False, special=False) for phrase in boilerplate()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS, mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip

"""Text lengths of samples in tokens, and which of them are over the limit: told before training starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from src.checkpoint import resolve
from src.manifest import MAX_SHOWN, ManifestError, Sample
from src.prompts import END_OF_TURN, SYSTEM_PROMPT, build_prompt

TOKENIZED_AT_ONCE = 1000


def load_tokenizer(llm_path: str) -> PreTrainedTokenizerBase:
    """The LLM's. Raises CheckpointError."""
    return PreTrainedTokenizerFast.from_pretrained(resolve(llm_path, "the LLM", "--llm_path"))


def text_lengths(
    samples: Mapping[int, Sample], tokenizer: PreTrainedTokenizerBase | None, system_prompt: str = SYSTEM_PROMPT
) -> dict[int, tuple[int, int]]:
    """Tokens of each sample's prompt, and of its answer with the end of turn; nothing without a tokenizer."""
    lengths, indices = {}, list(samples) if tokenizer else []
    for start in tqdm(
        range(0, len(indices), TOKENIZED_AT_ONCE), unit_scale=TOKENIZED_AT_ONCE, desc="text", disable=None
    ):
        part = indices[start : start + TOKENIZED_AT_ONCE]
        prompts = [build_prompt(samples[index].input, system_prompt) for index in part]
        answers = [samples[index].target + END_OF_TURN for index in part]
        tokens = (tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, answers))
        lengths |= zip(part, zip(*(map(len, ids) for ids in tokens), strict=True), strict=True)
    return lengths


def problems_of_text(prompt: int, answer: int, max_length: int, name: str = "answer") -> Iterable[str]:
    if prompt >= max_length:
        yield f"the prompt has {prompt} tokens, which leaves no room for an answer in {max_length}"
    elif prompt + answer > max_length:
        yield f"prompt and {name} have {prompt} + {answer} tokens; the answer is cut at {max_length}"


def over_limit(
    samples: Sequence[Sample], llm_path: str, max_length: int, system_prompt: str = SYSTEM_PROMPT
) -> dict[int, str]:
    """What is wrong with the samples whose texts have more than `max_length` tokens, by index.

    A token is a byte at least, so that few texts are tokenized, and where none is long the tokenizer is not loaded.
    """
    template, found, tokenizer = len((build_prompt("", system_prompt) + END_OF_TURN).encode()), {}, None
    for name in ("answer", "rejected answer"):
        answers = dict(enumerate(samples))
        if name == "rejected answer":
            answers = {index: replace(s, target=s.rejected) for index, s in answers.items() if s.rejected}
        long = {i: s for i, s in answers.items() if template + len((s.input + s.target).encode()) > max_length}
        tokenizer = tokenizer or (load_tokenizer(llm_path) if long else None)
        for index, (prompt, answer) in text_lengths(long, tokenizer, system_prompt).items():
            for problem in problems_of_text(prompt, answer, max_length, name):
                found.setdefault(index, problem)
    return found


def check_text_lengths(
    path: str,
    samples: Sequence[Sample],
    llm_path: str,
    max_length: int,
    max_bad_fraction: float,
    system_prompt: str = SYSTEM_PROMPT,
) -> str:
    """What is to be said of a manifest's texts over the limit, "" where there are none.

    Raises ManifestError, naming all of them, for more than `max_bad_fraction` of the samples.
    """
    found = over_limit(samples, llm_path, max_length, system_prompt)
    if not found:
        return ""
    told = f"manifest {path}: texts of {len(found)} of {len(samples)} entries are over --max_length {max_length} tokens"
    lines = [f"{ascii(samples[index].audio_id)[1:-1]}: {problem}" for index, problem in found.items()]
    more = [ascii(samples[index].audio_id)[1:-1] for index in list(found)[MAX_SHOWN:]]
    lines = [*lines[:MAX_SHOWN], *([f"and {', '.join(more)}"] if more else [])]
    if len(found) > max_bad_fraction * len(samples):
        told += f", and --max_bad_fraction {max_bad_fraction:g} allows fewer: shorten them, or raise --max_length"
        raise ManifestError("\n".join([told, *lines]))
    return "\n".join([told, *lines])

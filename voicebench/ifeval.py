"""Instruction following (ifeval): the share of instructions and of prompts that a response follows.

The checkers are lm-eval's, which are those of IFEval's authors (Zhou et al. 2023, arXiv 2311.07911). Strict takes the
response as it is; loose also tries it without its first or last line and without asterisks. The official score of
VoiceBench is the mean of four rates: prompts wholly followed and single instructions followed, both strict and loose.
"""

import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from evaluation.intervals import mean_interval, rate_interval
from evaluation.result_files import BenchmarkFileError, Result, answer_of
from evaluation.scoring import Score, format_scores, format_table, percent
from src.errors import UserError
from voicebench.scored import Scored
from voicebench.subsets import ANSWER_FIELDS

FIELDS = ("prompt", "instruction_id_list", "kwargs")
SENTENCE_MODEL = "punkt_tab"


class NotInstalled(UserError):
    """The checkers cannot be used; the message says why and what to do."""


def load_checkers() -> Callable[[dict, list[str]], dict]:
    """lm-eval's `process_results` for IFEval. Raises NotInstalled."""
    # This folder's evaluate.py would hide the library of that name, which lm-eval imports.
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    try:
        import langdetect
        import nltk

        find_sentence_model(nltk)
        from lm_eval.tasks.ifeval.utils import process_results
    except ImportError as error:
        raise NotInstalled(
            f"lm-eval's IFEval checkers are not installed ({error}): pip install -r requirements-eval.txt, "
            "in an environment of its own"
        ) from None
    langdetect.DetectorFactory.seed = 0  # without a seed its guesses vary from run to run
    return process_results


def find_sentence_model(nltk) -> None:
    """Have nltk's sentence model at hand, or fetch it. Raises NotInstalled."""
    try:
        nltk.data.find(f"tokenizers/{SENTENCE_MODEL}")
    except LookupError:
        if not nltk.download(SENTENCE_MODEL, quiet=True):
            raise NotInstalled(
                f"nltk's sentence model is neither here nor to be fetched: run `python -m nltk.downloader "
                f"{SENTENCE_MODEL}` where there is a network, then copy the folder nltk_data from the home folder "
                "there to the one here, or name it in the environment variable NLTK_DATA"
            ) from None


def score_ifeval(result: Result) -> Scored:
    """Raises BenchmarkFileError naming an item whose instructions the checkers cannot use."""
    try:
        process_results = load_checkers()
    except NotInstalled as reason:
        return Scored({"items": len(result.items), "not_scored": str(reason)}, f"not scored: {reason}")
    checked = {name: check(result.path, name, record, process_results) for name, record in result.items.items()}
    n, rates, contributions = len(checked), {}, [0.0] * len(checked)
    for mode in ("strict", "loose"):
        followed = [item[f"inst_level_{mode}_acc"] for item in checked.values()]
        rates[f"prompt_{mode}"] = sum(map(all, followed)) / n
        per_prompt = sum(map(len, followed)) / n
        rates[f"instruction_{mode}"] = instruction_rate = sum(map(sum, followed)) / (n * per_prompt)
        # What each item adds to the mean of the four rates; a rate over instructions is a ratio of two means, here to
        # first order, so that the contributions' mean is the score and their bootstrap its interval.
        for place, item in enumerate(followed):
            ratio = instruction_rate + (sum(item) - instruction_rate * len(item)) / per_prompt
            contributions[place] += (all(item) + ratio) / 4
    strict = sum(item["prompt_level_strict_acc"] for item in checked.values())
    answers = [answer_of(record, ANSWER_FIELDS) for record in result.items.values()]
    total = Score(
        n=n,
        official=sum(rates.values()) / 4,
        official_interval=tuple(min(1.0, max(0.0, end)) for end in mean_interval(contributions)),
        strict=strict / n,
        strict_interval=rate_interval(strict, n),
        unparsed=sum(not (answer or "").strip() for answer in answers) / n,
        errors=answers.count(None),
        chance=None,
        always_a=None,
    )
    table = format_table(["", "strict", "loose"], [
        [f"{whole}s followed", percent(rates[f"{whole}_strict"]), percent(rates[f"{whole}_loose"])]
        for whole in ("prompt", "instruction")
    ])  # fmt: skip
    return Scored(
        {
            "items": n,
            "rates": rates,
            "levels": {"total": {"total": asdict(total)}},
            "verdicts": [{"key": name, **item} for name, item in checked.items()],
        },
        f"{table}\n\nofficial: the mean of the four; strict: prompts followed, strict\n"
        f"{format_scores({'total': {'total': total}})}",
        {f"prompt {mode}": {name: item[f"prompt_level_{mode}_acc"] for name, item in checked.items()}
         for mode in ("strict", "loose")},
    )  # fmt: skip


def as_checked(response: str) -> str:
    """What VoiceBench shows to the checkers: the response without two models' marks; else its white space counts."""
    response = response[3:].strip() if response.startswith(("<1>", "<2>", "<3>")) else response
    return response.removesuffix("<|user|>").strip() if response.endswith("<|user|>") else response


def check(path: Path, name: str, record: dict, process_results: Callable) -> dict:
    """lm-eval's finding on one item; an item that was never answered follows nothing."""
    lacking = [field for field in FIELDS if record.get(field) is None]
    if lacking:
        raise BenchmarkFileError(f"{path} item {name}: no field {', '.join(lacking)}: is this a result of this subset?")
    random.seed(0)  # checkers draw what an instruction leaves open
    try:
        return process_results({"key": name, **record}, [as_checked(answer_of(record, ANSWER_FIELDS) or "")])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BenchmarkFileError(
            f"{path} item {name}: lm-eval's checkers cannot use its instructions {record['instruction_id_list']} "
            f"with {record['kwargs']} ({type(error).__name__}: {error})"
        ) from None

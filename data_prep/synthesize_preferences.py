"""Make stage 4's preference pairs: a text LLM repeats each good answer with one fact about the sound wrong.

    export OPENAI_API_KEY=...
    python data_prep/synthesize_preferences.py data/stage2.json --output data/preferences.json \\
        --base_url https://HOST/v1 --model NAME --pairs 4000

A first pass asks for the rejected answers. In a second one a judge compares both answers, in an order drawn by lot,
with what is known of the clip: a pair is kept where the judge names the rejected answer as the wrong one, counts one
difference, finds it to be about the sound, and agrees with the explanation. The rest is dropped and counted.

What the LLM is told stands in rejected_answers.txt and rejected_answers_judge.txt beside this script: edit them, or
pass files of your own. Replies are saved as they come, in `<output>.replies.jsonl` and `<output>.judged.jsonl`: started
again with the same command, a run asks for what is missing. Which samples are drawn depends on --seed and the sample
alone, and one that several manifests hold is asked about once.
"""

import argparse
import hashlib
import json
import re
import string
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import path_from
from data_prep.instructions import attributes_of, compose_description
from data_prep.replies import Question, ask_missing, discard_replies, has_replies, is_text, verdict_on
from evaluation.endpoint import add_endpoint_flags, endpoint_of, visible_answer
from evaluation.journal import AnswerRecord, ResumeError, meta_path
from src.errors import UserError, print_error, reports_user_errors
from src.files import check_outputs
from src.flag_types import whole_number
from src.manifest import ManifestError, Sample, read_manifest, write_manifest

JUDGE_TEMPERATURE = 0.0
WRITTEN, KEPT = "written", "kept"
DROPPED = ("refused", "empty", "unreadable", "unchanged", "failed")  # of rejected answers
JUDGED_AWAY = {  # what the judge can find: in words
    "another": "the rejected answer not found wrong",
    "several": "not one difference",
    "silent": "not about the sound",
    "claim": "another difference than explained",
    "unreadable": "verdict unreadable",
    "failed": "no verdict",
}


class PromptError(UserError):
    """A file of instructions for the LLM that cannot be used; the message says why."""


@dataclass(frozen=True)
class Rejected:
    """What the LLM made of a good answer."""

    verdict: str  # WRITTEN, or one of DROPPED
    text: str = ""
    explanation: str = ""


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 with every reply there, 1 if some could not be had, 2 if the run could not go on."""
    args = parse_args(argv)
    replies, judged = (args.output.with_name(f"{args.output.name}.{name}.jsonl") for name in ("replies", "judged"))
    outputs = [args.output, replies, meta_path(replies), judged, meta_path(judged)]
    check_outputs(outputs, [*args.manifests, args.prompt, args.judge_prompt])
    prompt, judge_prompt = read_prompt(args.prompt), read_prompt(args.judge_prompt)
    samples = draw_samples([sample for path in args.manifests for sample in read_manifest(path)], args.pairs, args.seed)
    writer = endpoint_of(args)
    judge = replace(writer, model=args.judge_model or args.model, temperature=JUDGE_TEMPERATURE)
    questions = [writer_question(sample, prompt) for sample in samples]
    if args.overwrite:
        discard_replies([replies, judged], writer, questions[0].messages)
    elif args.judge_again:
        discard_replies([judged], judge, questions[0].messages)
    if has_replies(judged) and not has_replies(replies):
        raise ResumeError(f"{judged} holds verdicts on answers of which {replies.name} is gone; pass --judge_again")
    settings = writer_settings(args, prompt, samples)
    answers, not_written = ask_missing(writer, questions, replies, settings, args.concurrency)
    rejected = [read_rejected(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
    questions = [judge_question(*pair, judge_prompt) for pair in zip(samples, rejected, strict=True)]
    settings |= {"judge_model": judge.model, "judge_prompt": digest(judge_prompt)}
    settings["order"] = digest(json.dumps([sample.audio_id for sample in samples]))  # see `place_of_rejected`
    try:
        verdicts, not_judged = ask_missing(judge, questions, judged, settings, args.concurrency)
    except ResumeError as error:  # the rejected answers fit: they need not be discarded with the verdicts
        told = str(error).replace("--overwrite", "--judge_again")
        raise ResumeError(told) from None
    source = f"{re.sub('[^a-z0-9]+', '_', args.model.lower())}_{digest(prompt)[:6]}"
    write_pairs(args.output, samples, rejected, verdicts, source)
    if not_written or not_judged:
        print_error(f"{not_written + not_judged} reply(s) could not be had; run again to ask for them")
    return 1 if not_written or not_judged else 0


def draw_samples(samples: Sequence[Sample], pairs: int | None, seed: int) -> list[Sample]:
    """The samples to ask about, each once, in their order; so many of them, drawn by lot, if `pairs` is given.

    Samples of whose clip nothing is known are left out, which is told. Raises ManifestError where none is left, and
    where two samples that differ have one audio_id.
    """
    different: dict[str, Sample] = {}
    for sample in samples:
        other = different.setdefault(sample.audio_id, sample)
        if key_of(other) != key_of(sample):
            raise ManifestError(
                f"two different samples have one audio_id, {sample.audio_id} ({other.audio_filepath} and "
                f"{sample.audio_filepath}): rename one, to tell them apart"
            )
    once: dict[tuple, Sample] = {}
    for sample in different.values():
        once.setdefault(key_of(sample), sample)
    known = [sample for sample in once.values() if sample.transcription.strip() or attributes_of(sample)]
    if len(known) < len(once):
        print(f"left out {len(once) - len(known)} samples: neither a transcription nor attributes tell of their clips")
    if not known:
        raise ManifestError("no sample to ask about: nothing is known of any clip; add transcriptions or attributes")
    drawn = sorted(known, key=lambda sample: digest(f"{seed} {sample.audio_id}"))[:pairs]
    ids = {sample.audio_id for sample in drawn}
    return [sample for sample in known if sample.audio_id in ids]


def key_of(sample: Sample) -> tuple:
    """What makes two samples the same."""
    return sample.audio_filepath.absolute(), sample.input, sample.target


def writer_question(sample: Sample, prompt: str) -> Question:
    content = f"{context_of(sample)}\n\nGood answer: {sample.target}"
    record = {"audio_id": sample.audio_id, "input": sample.input, "target": sample.target}
    return Question(f"{sample.audio_id}, rejected answer", messages_of(prompt, content), record)


def judge_question(sample: Sample, rejected: Rejected, prompt: str) -> Question:
    """What the judge is asked; nothing where there is no rejected answer."""
    first, second = sample.target, rejected.text
    if place_of_rejected(sample) == 1:
        first, second = second, first
    content = f"{context_of(sample)}\n\nAnswer 1: {first}\n\nAnswer 2: {second}\n\nClaim: {rejected.explanation}"
    record = {"audio_id": sample.audio_id, "target": sample.target, "rejected": rejected.text}
    messages = messages_of(prompt, content) if rejected.verdict == WRITTEN else []
    return Question(f"{sample.audio_id}, verdict", messages, record)


def context_of(sample: Sample) -> str:
    return f"What is known:\n{compose_description(sample)}\n\nInstruction: {sample.input}"


def messages_of(prompt: str, content: str) -> list[dict]:
    return [{"role": "system", "content": prompt}, {"role": "user", "content": content}]


def place_of_rejected(sample: Sample) -> int:
    """Whether the judge sees the rejected answer as the first or as the second one, as good as by lot."""
    return 1 + int(digest(f"order {sample.audio_id}"), 16) % 2


def read_rejected(sample: Sample, answer: AnswerRecord) -> Rejected:
    """What a reply holds: a JSON object with `rejected` and `explanation`, perhaps among other words."""
    found = object_in(answer)
    if found is None:
        verdict = verdict_on(answer)
        return Rejected("unreadable" if verdict == "kept" else verdict)
    text, explanation = found.get("rejected"), found.get("explanation")
    texts = isinstance(text, str) and isinstance(explanation, str) and is_text(text + explanation)
    if not texts or not explanation.strip():
        return Rejected("unreadable")
    verdict = verdict_on(AnswerRecord(text))
    if verdict != "kept":
        return Rejected(verdict)
    unchanged = words_of(text) == words_of(sample.target)
    return Rejected("unchanged" if unchanged else WRITTEN, text.strip(), explanation.strip())


def words_of(text: str) -> list[str]:
    """What two answers are compared by: neither case nor punctuation is a fact."""
    return [word.strip(string.punctuation) for word in text.casefold().split()]


def verdict_of_judge(sample: Sample, answer: AnswerRecord) -> str:
    """KEPT, or one of JUDGED_AWAY."""
    if answer.error is not None:
        return "failed"
    found = object_in(answer)
    if found is None or not {"wrong", "differences", "about_sound", "claim_holds"} <= found.keys():
        return "unreadable"
    if str(found["wrong"]) != str(place_of_rejected(sample)):  # some models write numbers as texts
        return "another"
    if str(found["differences"]) != "1":
        return "several"
    if found["about_sound"] is not True:
        return "silent"
    return KEPT if found["claim_holds"] is True else "claim"


def object_in(answer: AnswerRecord) -> dict | None:
    """The JSON object that a reply holds; None where there is none that can be read."""
    said = visible_answer(answer.text)
    start = said.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(said, start)  # line breaks within texts are let pass
    except (ValueError, RecursionError):
        return None
    return found


def write_pairs(
    path: Path, samples: Sequence[Sample], rejected: Sequence[Rejected], verdicts: Sequence[AnswerRecord], source: str
) -> None:
    """Write the manifest of the pairs that are kept, and say what is not. Raises ManifestError where none is."""
    dropped: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    entries = []
    for sample, made, verdict in zip(samples, rejected, verdicts, strict=True):
        dropped[made.verdict] += 1
        if made.verdict == WRITTEN:
            found = verdict_of_judge(sample, verdict)
            judged[found] += 1
            if found == KEPT:
                entries.append(to_entry(sample, made, source, path.parent))
    counts = ", ".join(f"{dropped[name]} {name}" for name in DROPPED)
    print(f"{len(samples)} answers: {dropped[WRITTEN]} rejected ones written; {counts}")
    away = ", ".join(f"{judged[name]} {words}" for name, words in JUDGED_AWAY.items())
    print(f"judged away {dropped[WRITTEN] - judged[KEPT]}: {away}")
    write_manifest(path, entries)
    print(f"{path}: {len(entries)} preference pairs")


def to_entry(sample: Sample, rejected: Rejected, source: str, folder: Path) -> dict:
    """The manifest's entry of a pair, with the published fields."""
    return {
        **sample.extra,
        "audio_id": sample.audio_id,
        "audio_filepath": path_from(folder, sample.audio_filepath),
        "input": sample.input,
        "target": sample.target,
        "chosen": sample.target,
        "rejected": rejected.text,
        "dpo_explanation": rejected.explanation,
        "dpo_source": f"{sample.extra.get('kind', sample.dataset)}_{source}",
        "transcription": sample.transcription,
        "dataset": sample.dataset,
        "duration": sample.duration,
    }


def writer_settings(args: argparse.Namespace, prompt: str, samples: Sequence[Sample]) -> dict:
    """What the rejected answers depend on."""
    return {
        "model": args.model, "temperature": args.temperature, "top_p": args.top_p, "seed": args.seed,
        "pairs": args.pairs, "prompt": digest(prompt),
        "samples": digest(json.dumps([(context_of(sample), sample.target) for sample in samples])),
    }  # fmt: skip


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_prompt(path: Path) -> str:
    """What the LLM is told first. Raises PromptError."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise PromptError(f"{path} cannot be read: {error}; expected a text for the LLM, in UTF-8") from None
    if not text:
        raise PromptError(f"{path} is empty; expected a text for the LLM")
    return text


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("manifests", nargs="+", type=Path, help="of questions and good answers")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write; .jsonl gives JSON Lines")
    parser.add_argument("--pairs", type=whole_number(1), help="answers to ask about, drawn by lot (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument("--prompt", type=Path, default=Path(__file__).with_name("rejected_answers.txt"))
    parser.add_argument("--judge_model", help="at the same endpoint (default: --model)")
    parser.add_argument("--judge_prompt", type=Path, default=Path(__file__).with_name("rejected_answers_judge.txt"))
    add_endpoint_flags(parser, temperature=0.7, top_p=0.95, max_tokens=512)
    parser.add_argument("--overwrite", action="store_true", help="discard all replies on disk")
    parser.add_argument("--judge_again", action="store_true", help="discard the judge's replies on disk")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

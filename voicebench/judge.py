"""Let a judge model rate answers to VoiceBench: 1 to 5 for open questions, yes or no against sd-qa's references.

    export OPENAI_API_KEY=...
    python voicebench/judge.py results/diffa-alpacaeval-test-audio.jsonl --base_url https://HOST/v1 --model gpt-4o-mini
    python voicebench/evaluate.py results/diffa-alpacaeval-test-audio.jsonl

Any endpoint that speaks OpenAI's chat completions will do, a local one as well. Every answer is judged three times at
temperature 0.5 and top-p 0.95. Verdicts are saved beside the result, as `<result>.judge.jsonl`, as they come; started
again, a run asks for what is missing. Where evaluate.py finds that file, it reads it.

Numbers published for VoiceBench come from its own rubric and GPT-4o-mini; numbers from other rubrics or judges compare
with one another alone. To use another rubric, write it into a file and pass `--rubric`: the text is sent as it is, with
{prompt}, {response} and, for sd-qa, {reference} filled in; what stands above a line of three dashes, if there is one,
becomes the system message. The rubrics here are rubric_open.txt and rubric_qa.txt. VoiceBench's own stand in its
repository's api_judge.py.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import VOICEBENCH
from evaluation.endpoint import Endpoint, NoReply, add_endpoint_flags, ask_all, endpoint_of
from evaluation.journal import is_written
from evaluation.result_files import BenchmarkFileError, read_result
from src.errors import print_error, reports_user_errors
from src.files import check_outputs
from voicebench.parsing import parse_rating, parse_vote
from voicebench.rubric import KINDS, Rubric
from voicebench.subsets import ANSWER_FIELDS, evaluator_of, recognise
from voicebench.verdicts import RATED, JudgeQuestion, Verdicts, questions_of, verdict_path, write_rated


@dataclass(frozen=True)
class Judge:
    """An endpoint that judges by a rubric."""

    endpoint: Endpoint
    rubric: Rubric
    parse: Callable[[str], float | None]
    asks: int  # how often a reply that is no verdict is asked for again, the first time included

    def rate(self, question: JudgeQuestion) -> tuple[str, float]:
        """One (reply, rating). Raises NoReply, EndpointError."""
        messages = self.rubric.messages(question)
        for _ in range(self.asks):
            reply = self.endpoint.ask(messages).text
            rating = self.parse(reply)
            if rating is not None:
                return reply, rating
        raise NoReply(f"no verdict in {self.asks} replies, the last one {reply[:80]!r}")


def collect(
    judge: Judge, verdicts: Verdicts, missing: Sequence[tuple[JudgeQuestion, int]], concurrency: int
) -> list[str]:
    """Ask for the missing (question, sample) pairs and save what comes; what failed, as "item KEY: reason".

    Raises EndpointError when there is no use in asking on; what came before is saved.
    """
    failures = []

    def rate(question_and_sample: tuple[JudgeQuestion, int]) -> tuple[str, float]:
        return judge.rate(question_and_sample[0])

    for (question, sample), verdict in ask_all(rate, missing, concurrency, "verdict", verdicts.path.name):
        if isinstance(verdict, NoReply):
            failures.append(f"item {question.key}: {verdict}")
        else:
            verdicts.append(question, sample, *verdict)
    return failures


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 with every verdict there, 1 if some could not be had, 2 if the run could not go on."""
    args = parse_args(argv)
    result = read_result(args.result, VOICEBENCH.key, ANSWER_FIELDS)
    kind = args.evaluator or evaluator_of(args.result, recognise(args.result, result.items.values()))
    if kind not in KINDS:
        raise BenchmarkFileError(f"{args.result} needs no judge: evaluate.py scores it by its rule for {kind}")
    rubric = Rubric.read(args.rubric or Path(__file__).with_name(f"rubric_{kind}.txt"), kind)
    questions = questions_of(result, kind)
    wanted = {"kind": kind, "model": args.model, "rubric": rubric.digest, "temperature": args.temperature,
              "top_p": args.top_p, "max_tokens": args.max_tokens, "samples": args.samples}  # fmt: skip
    judge = Judge(endpoint_of(args), rubric, parse_rating if kind == "open" else parse_vote, args.asks)
    path = verdict_path(args.result)
    check_outputs([path, args.result.with_name(RATED + args.result.name)], [args.result, args.rubric])
    if args.overwrite and is_written(path) and questions:
        judge.endpoint.check(rubric.messages(questions[0]))  # verdicts are not discarded for nothing
    verdicts = open_verdicts(path, wanted, questions, args.overwrite)
    by_digest = {question.digest: question for question in questions}
    missing = [
        (question, sample) for digest, question in by_digest.items() for sample in range(args.samples)
        if sample not in verdicts.ratings.get(digest, {})
    ]  # fmt: skip
    print(f"{len(questions)} answers, {len(result.items) - len(questions)} item(s) without one; "
          f"{len(missing)} of {len(by_digest) * args.samples} verdicts to be asked for")  # fmt: skip
    failures = collect(judge, verdicts, missing, args.concurrency)
    print(f"{len(missing) - len(failures)} verdicts saved: {verdicts.path}")
    if not failures and questions:
        rated = write_rated(result, kind, verdicts)
        print(f"answers with verdicts, as VoiceBench's own evaluate.py reads them: {rated}")
    for failure in failures[:20]:
        print(f"no verdict: {failure}", file=sys.stderr)
    if failures:
        print_error(f"{len(failures)} verdict(s) could not be had; run again to ask for them")
    return 1 if failures else 0


def open_verdicts(path: Path, wanted: dict, questions: Sequence[JudgeQuestion], overwrite: bool) -> Verdicts:
    """The verdicts at `path`, ready for more. Raises BenchmarkFileError if they were made otherwise."""
    if overwrite:
        path.resolve().unlink(missing_ok=True)
    verdicts = Verdicts.read(path) if is_written(path) else Verdicts(path, wanted)
    verdicts.check_settings(wanted)
    verdicts.check_answers(questions)
    return verdicts


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("result", type=Path, help="result file, JSON Lines")
    add_endpoint_flags(parser, temperature=0.5, top_p=0.95, max_tokens=1024)
    parser.add_argument("--rubric", type=Path, help="default: the one for the subset beside this script")
    parser.add_argument("--evaluator", choices=sorted(KINDS), help="default: by the subset")
    parser.add_argument("--samples", type=int, default=3, help="verdicts per answer (default: %(default)s)")
    parser.add_argument("--asks", type=int, default=3, help="for a verdict, if replies are none (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="discard the verdicts on disk")
    args = parser.parse_args(argv)
    for name in ("samples", "concurrency", "tries", "asks"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())

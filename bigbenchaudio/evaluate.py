"""Score a result file of Big Bench Audio: in total and by category.

    python bigbenchaudio/evaluate.py results/bigbenchaudio.jsonl
    python voicebench/judge.py results/bigbenchaudio.jsonl --evaluator qa --base_url URL --model NAME

Each line of the result holds the benchmark's own fields and the model's answer as `response`. Official is what most of
a judge's verdicts say, which are found beside the result once VoiceBench's judge has been asked; strict reads valid or
invalid, yes or no, or a number. The benchmark's own prompt for the judge stands in the article that released it
(huggingface.co/blog/big-bench-audio-release); numbers from other prompts or judges compare with one another alone.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bigbenchaudio.reading import strict_answer
from evaluation.benchmark import Benchmark
from evaluation.benchmarks import BIG_BENCH_AUDIO, BIG_BENCH_AUDIO_ANSWERS
from evaluation.result_files import Result, answer_of
from evaluation.scoring import Verdict, groups_of, run_scorer
from voicebench.qa import judge_outcomes


def rule_of(result: Result) -> Callable[[Benchmark, str, Mapping], Verdict]:
    """What judges the items of `result`: the verdicts beside it, where there are any, and the strict rule."""
    judged = judge_outcomes(result)
    votes = {} if isinstance(judged, str) else judged[1]

    def judge(benchmark: Benchmark, name: str, record: Mapping) -> Verdict:
        category, right = record["category"], record[benchmark.answer].strip().lower()
        answered = answer_of(record, benchmark.answer_fields)
        parsed = strict_answer(category, answered or "")
        answers = BIG_BENCH_AUDIO_ANSWERS[category]
        return Verdict(
            key=name,
            groups=groups_of(record, benchmark.levels),
            official=votes.get(name),
            strict=parsed == right,
            parsed=parsed,
            chance=1 / len(answers) if answers else None,
            first=right == next(iter(answers), None),
            error=answered is None,
        )

    return judge


def main(argv: list[str] | None = None) -> int:
    return run_scorer(BIG_BENCH_AUDIO, __doc__, argv, rule_of)


if __name__ == "__main__":
    sys.exit(main())

"""Score a VoiceBench result file by the rule of its subset; all ten subsets are understood.

    python voicebench/evaluate.py results/diffa-openbookqa-test-audio.jsonl
    python voicebench/evaluate.py answers.jsonl --evaluator mcq --compare baseline.jsonl
    python voicebench/evaluate.py results/diffa-sd-qa-usa-audio.jsonl --reference data/voicebench
    python voicebench/evaluate.py --overall results/

The subset is recognised from a `subset` or `data` field, from the `.meta.json` that inference_stage2_voicebench.py
writes beside its output, or from the file's name; `--evaluator` overrides it. Each line holds the subset's own fields
and the model's answer as `response`. Of a folder, all answers to VoiceBench are scored. Open questions (alpacaeval,
commoneval, wildvoice) and sd-qa are first rated by a judge model (judge.py); its verdicts are found beside the result.
IFEval's checkers and PEDANT are extra (requirements-eval.txt). `--overall` gives the mean of the leaderboard's nine
subsets from their scores files, or from a folder of them.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import VOICEBENCH
from evaluation.result_files import BenchmarkFileError, Result, check_same_items, read_records, read_result
from evaluation.scoring import report, scores_path
from src.errors import UserError, message_of, print_error, reports_user_errors
from src.files import check_outputs
from voicebench.bbh import judge_bbh
from voicebench.harm import judge_harm
from voicebench.ifeval import score_ifeval
from voicebench.mcq import judge_mcq
from voicebench.open_ended import score_open
from voicebench.overall import format_overall
from voicebench.qa import score_qa
from voicebench.questions import read_reference
from voicebench.scored import Scored, compare_scored, score_verdicts
from voicebench.subsets import ANSWER_FIELDS, evaluator_of, question_of, recognise, split_of_result
from voicebench.verdicts import RATED

SCORERS: dict[str, Callable[[Result], Scored]] = {
    "mcq": partial(score_verdicts, judge=judge_mcq, lot="draws one of the four letters there"),
    "harm": partial(score_verdicts, judge=judge_harm),
    "bbh": partial(score_verdicts, judge=judge_bbh, lot="tosses a coin there"),
    "open": score_open,
    "qa": score_qa,
    "ifeval": score_ifeval,
}


def evaluate(path: Path, evaluator: str | None, reference: Path | None, other: Path | None) -> int:
    """Score one file, print its table, write its scores; the exit status."""
    subset = recognise(path, read_records(path)[0])
    split = split_of_result(path, subset)
    read = partial(
        read_result, key=VOICEBENCH.key, answer_fields=ANSWER_FIELDS, reference=reference, text=question_of,
        read_reference=partial(read_reference, subset=subset, split=split), asked_in=("prompt",),
    )  # fmt: skip
    result = read(path)
    evaluator = evaluator or evaluator_of(path, subset)
    scored = SCORERS[evaluator](result)
    table = f"voicebench {subset or ''} ({evaluator}): {path}\n{scored.text}"
    scores = {
        "benchmark": "voicebench",
        "result": path.name,
        "subset": subset,
        "split": split,
        "evaluator": evaluator,
        "missing": result.missing,
        "broken": result.broken,
    }
    if other:
        baseline = read(other)
        check_same_items(result, baseline)
        comparison, text = compare_scored(scored, SCORERS[evaluator](baseline))
        scores["broken"] = result.broken + baseline.broken
        scores["comparison"] = {"with": str(other), **comparison}
        table += f"\ncompared with {other}, item by item\n{text}"
    return report(path, scores | scored.scores, table)


def results_in(path: Path) -> list[Path]:
    """`path` itself or, of a folder, the answers to VoiceBench in it; of answers that are there with and without a
    judge's ratings (`result-*`), those without. Raises BenchmarkFileError where there are none.
    """
    if not path.is_dir():
        return [path]
    files = [file for file in sorted(path.glob("*.jsonl")) if not file.name.endswith(".judge.jsonl")]
    results = [file for file in files if file.name.endswith("-audio.jsonl") or recognise(file, ())]
    rated = {path / f"{RATED}{file.name}" for file in results}
    if not results:
        raise BenchmarkFileError(f"{path} holds no *-audio.jsonl: pass a result file, or the folder of the answers")
    return [file for file in results if file not in rated]


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    """The exit status: 0, 1 (broken lines, or no overall score yet), or 2 (a result could not be scored)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("result", type=Path, nargs="?", help="result file, JSON Lines, or a folder of them")
    what.add_argument("--overall", type=Path, nargs="+", metavar="SCORES", help="scores files, or a folder of them")
    parser.add_argument("--evaluator", choices=sorted(SCORERS), help="default: by the subset")
    parser.add_argument(
        "--reference", type=Path,
        help="the questions: JSON Lines, a Parquet file, or the data set's folder; items missing from the result then "
        "count as wrong",
    )  # fmt: skip
    parser.add_argument("--compare", type=Path, help="another run's result on the same items, to hold this one against")
    args = parser.parse_args(argv)
    if args.overall:
        text, complete = format_overall(args.overall)
        print(text)
        return 0 if complete else 1
    results = results_in(args.result)
    check_outputs([scores_path(path) for path in results], [*results, args.reference, args.compare])
    statuses, closed = [], None
    for path in results:
        try:
            statuses.append(evaluate(path, args.evaluator, args.reference, args.compare))
        except UserError as error:  # as well where one cannot be scored
            print_error(message_of(error))
            statuses.append(2)
        except BrokenPipeError as error:  # `| head`: the scores of the others are written all the same
            closed = error
    if closed:
        raise closed
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())

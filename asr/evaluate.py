"""Word and character error rate of transcripts, after Whisper's English text normalisation.

    python asr/evaluate.py results/asr.jsonl
    python asr/evaluate.py results/asr.jsonl --reference data/test-clean.json --compare baseline/asr.jsonl

Each line holds `transcription` (the truth) and `response` (what the model heard).
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import ASR
from evaluation.intervals import mean_interval
from evaluation.result_files import BenchmarkFileError, Result, answer_of, check_same_items, read_result
from evaluation.scoring import format_interval, format_table, parse_args, percent, report
from src.errors import reports_user_errors
from src.word_errors import Edits, character_edits, normalise, total, word_edits

MAX_NAMED = 10  # utterances with the most errors


@dataclass(frozen=True)
class AlignedUtterance:
    """A reference and its hypothesis, normalised, with the edits between them by words and by characters."""

    key: str
    reference: str
    hypothesis: str
    words: Edits
    characters: Edits
    error: bool  # no answer was made


def align(key: str, reference: str, hypothesis: str, error: bool) -> AlignedUtterance:
    """Align two normalised texts by words and by characters."""
    words, characters = word_edits(reference, hypothesis), character_edits(reference, hypothesis)
    return AlignedUtterance(key, reference, hypothesis, words, characters, error)


def interval(edits: list[Edits]) -> tuple[float, float]:
    """95 % bootstrap interval of the error rate over utterances."""
    return mean_interval([one.errors for one in edits], [one.length for one in edits])


def summarise(utterances: list[AlignedUtterance]) -> dict:
    """Totals: rates as fractions with their intervals, counts of errors of both kinds."""
    words, characters = [u.words for u in utterances], [u.characters for u in utterances]
    by_word, by_character = total(words), total(characters)
    return {
        "utterances": len(utterances),
        "errors": sum(u.error for u in utterances),
        "wer": by_word.rate,
        "wer_interval": interval(words),
        "words": by_word.length,
        "substitutions": by_word.substitutions,
        "deletions": by_word.deletions,
        "insertions": by_word.insertions,
        "cer": by_character.rate,
        "cer_interval": interval(characters),
        "characters": by_character.length,
        "character_substitutions": by_character.substitutions,
        "character_deletions": by_character.deletions,
        "character_insertions": by_character.insertions,
    }


def format_rates(summary: dict) -> str:
    """The table of `summarise`."""
    rows = [
        [rate.upper(), percent(summary[rate]), format_interval(summary[f"{rate}_interval"]),
         *(summary[prefix + kind] for kind in ("substitutions", "deletions", "insertions")), f"{summary[unit]} {unit}"]
        for rate, prefix, unit in (("wer", "", "words"), ("cer", "character_", "characters"))
    ]  # fmt: skip
    return format_table(["", "rate", "95 %", "sub", "del", "ins", "of"], rows)


def compare(ours: list[AlignedUtterance], theirs: list[AlignedUtterance]) -> dict:
    """Difference of two runs' word error rates on the same utterances, with its paired bootstrap interval."""
    lengths = [u.words.length for u in ours]
    differences = [a.words.errors - b.words.errors for a, b in zip(ours, theirs, strict=True)]
    return {
        "wer": total([u.words for u in theirs]).rate,
        "wer_difference": sum(differences) / max(1, sum(lengths)),  # below zero: ours makes fewer errors
        "wer_difference_interval": mean_interval(differences, lengths),
    }


def align_items(result: Result) -> list[AlignedUtterance]:
    """Normalise and align every item; one without an answer counts as an empty hypothesis."""
    utterances = []
    for name, record in result.items.items():
        if ASR.answer not in record:
            raise BenchmarkFileError(f"{result.path} item {name}: no field {ASR.answer!r} to hold the answer against")
        heard = answer_of(record, ASR.answer_fields)
        utterances.append(align(name, normalise(record[ASR.answer]), normalise(heard or ""), error=heard is None))
    return utterances


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = parse_args(__doc__, argv)
    result = read_result(args.result, ASR.key, ASR.answer_fields, args.reference)
    utterances = align_items(result)
    scores = {
        "benchmark": ASR.name,
        "result": args.result.name,
        "broken": result.broken,
        "missing": result.missing,
        **summarise(utterances),
    }
    if args.compare:
        other = read_result(args.compare, ASR.key, ASR.answer_fields, args.reference)
        check_same_items(result, other)
        theirs = {u.key: u for u in align_items(other)}
        scores["broken"] += other.broken
        comparison = compare(utterances, [theirs[u.key] for u in utterances])
        scores["comparison"] = {"with": str(args.compare), **comparison}
    print(f"asr: {args.result}\n{format_rates(scores)}")
    if args.compare:
        print(
            f"compared with {args.compare}: WER {percent(comparison['wer'])} there, "
            f"{100 * comparison['wer_difference']:+.1f} points here, 95 % "
            f"{format_interval(comparison['wer_difference_interval'])}"
        )
    if scores["errors"]:
        print(f"{scores['errors']} item(s) have no answer and count as all deleted")
    worst = sorted((u for u in utterances if u.words.errors), key=lambda u: (-u.words.rate, u.key))[:MAX_NAMED]
    for u in worst:
        print(f"{u.key}: {percent(u.words.rate)}\n  said:  {u.reference}\n  heard: {u.hypothesis}")
    return report(args.result, scores | {"worst": [asdict(u) for u in worst]})


if __name__ == "__main__":
    sys.exit(main())

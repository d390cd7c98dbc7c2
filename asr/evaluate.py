"""Word and character error rate of transcripts, after Whisper's text normalisation, and as published.

    python asr/evaluate.py results/asr.jsonl
    python asr/evaluate.py results/asr.jsonl --reference data/test-clean.json --compare baseline/asr.jsonl
    python asr/evaluate.py results/hypotheses --reference data/test-clean/text

Each line holds `transcription` (the truth) and `response` (what the model heard); or results and reference are Kaldi's
text, lines of ids and words. English is normalised by Whisper's rules and spelling table, other languages by its basic
rules, with all marks kept. Of scripts without spaces (Japanese, Chinese, Thai, ...) there is a character error rate,
and no word error rate. The truth tells the language, or --language does. The column "published rule" is DIFFA-2's:
WeNet's compute-wer.py with --char=1, which normalises little and serves other languages too; what is missing counts as
deleted, while that script skips it.
"""

import sys
from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import ASR
from evaluation.intervals import mean_interval
from evaluation.kaldi_files import read_transcripts
from evaluation.official_rules import asr_tokens
from evaluation.result_files import BenchmarkFileError, Result, answer_of, check_same_items, read_result
from evaluation.scoring import format_interval, format_table, parse_args, percent, report
from src.errors import reports_user_errors
from src.flag_types import language_code
from src.text_normalisation import ENGLISH, Normalisation, normalisation_for, normalisation_of
from src.word_errors import Edits, character_edits, total, word_edits

MAX_NAMED = 10  # utterances with the most errors


@dataclass(frozen=True)
class AlignedUtterance:
    """A reference and its hypothesis, normalised, with the edits between them by words and by characters."""

    key: str
    reference: str
    hypothesis: str
    words: Edits | None  # None where words cannot be told apart
    characters: Edits
    tokens: Edits  # of the texts as they were, by the published rule
    error: bool  # no answer was made


def align(key: str, said: str, heard: str, error: bool, normalise: Normalisation = ENGLISH) -> AlignedUtterance:
    """Align two texts: normalised by words and by characters, and as they are by the published rule's tokens."""
    reference, hypothesis = normalise(said), normalise(heard)
    words = word_edits(reference, hypothesis) if normalise.has_words else None
    tokens = word_edits(" ".join(asr_tokens(said)), " ".join(asr_tokens(heard)))
    return AlignedUtterance(key, reference, hypothesis, words, character_edits(reference, hypothesis), tokens, error)


def interval(edits: list[Edits]) -> tuple[float, float]:
    """95 % bootstrap interval of the error rate over utterances."""
    return mean_interval([one.errors for one in edits], [one.length for one in edits])


def summarise(utterances: list[AlignedUtterance]) -> dict:
    """Totals: rates as fractions with their intervals, counts of errors; None of words that cannot be told apart."""
    characters, tokens = [u.characters for u in utterances], [u.tokens for u in utterances]
    words = [u.words for u in utterances if u.words is not None]
    by_word, by_character, by_token = total(words) if words else None, total(characters), total(tokens)
    return {
        "utterances": len(utterances),
        "errors": sum(u.error for u in utterances),
        "wer": by_word and by_word.rate,
        "wer_interval": by_word and interval(words),
        "words": by_word and by_word.length,
        "substitutions": by_word and by_word.substitutions,
        "deletions": by_word and by_word.deletions,
        "insertions": by_word and by_word.insertions,
        "cer": by_character.rate,
        "cer_interval": interval(characters),
        "characters": by_character.length,
        "character_substitutions": by_character.substitutions,
        "character_deletions": by_character.deletions,
        "character_insertions": by_character.insertions,
        "published": by_token.rate,
        "published_interval": interval(tokens),
        "tokens": by_token.length,
        "published_substitutions": by_token.substitutions,
        "published_deletions": by_token.deletions,
        "published_insertions": by_token.insertions,
    }


def format_rates(summary: dict) -> str:
    """The table of `summarise`."""
    rates = {"WER": ("wer", "", "words"), "CER": ("cer", "character_", "characters"),
             "published rule": ("published", "published_", "tokens")}  # fmt: skip
    rates = {name: fields for name, fields in rates.items() if summary[fields[0]] is not None}
    rows = [
        ["rate", *(percent(summary[rate]) for rate, _, _ in rates.values())],
        ["95 %", *(format_interval(summary[f"{rate}_interval"]) for rate, _, _ in rates.values())],
        *(
            [kind, *(summary[prefix + kind] for _, prefix, _ in rates.values())]
            for kind in ("substitutions", "deletions", "insertions")
        ),
        ["of", *(f"{summary[unit]} {unit}" for _, _, unit in rates.values())],
    ]
    return format_table(["", *rates], rows)


def compare(ours: list[AlignedUtterance], theirs: list[AlignedUtterance]) -> dict:
    """Difference of two runs' error rates on the same utterances, with its paired bootstrap interval.

    By words, as `wer...`, or by characters, as `cer...`, where words cannot be told apart.
    """
    rate, unit = ("wer", "words") if all(u.words for u in ours) else ("cer", "characters")
    pairs = [(getattr(a, unit), getattr(b, unit)) for a, b in zip(ours, theirs, strict=True)]
    lengths, differences = [a.length for a, _ in pairs], [a.errors - b.errors for a, b in pairs]
    return {
        rate: total([b for _, b in pairs]).rate,
        f"{rate}_difference": sum(differences) / max(1, sum(lengths)),  # below zero: ours makes fewer errors
        f"{rate}_difference_interval": mean_interval(differences, lengths),
    }


def truths_of(result: Result) -> list[str]:
    """What was said in each item. Raises BenchmarkFileError where an item does not tell."""
    for name, record in result.items.items():
        if ASR.answer not in record:
            raise BenchmarkFileError(
                f"{result.path} item {name}: no field {ASR.answer!r} to hold the answer against; pass the manifest, or "
                "Kaldi's text, with --reference"
            )
        if not isinstance(record[ASR.answer], str):
            raise BenchmarkFileError(
                f"{result.path} item {name}: {ASR.answer} must be a text, found {record[ASR.answer]!r:.60}"
            )
    return [record[ASR.answer] for record in result.items.values()]


def align_items(result: Result, normalise: Normalisation | None = None) -> list[AlignedUtterance]:
    """Normalise and align every item; one without an answer counts as an empty hypothesis.

    `normalise`: by default, what fits the truths.
    """
    truths, utterances = truths_of(result), []
    normalise = normalise or normalisation_of(truths)
    for (name, record), said in zip(result.items.items(), truths, strict=True):
        heard = answer_of(record, ASR.answer_fields)
        utterances.append(align(name, said, heard or "", heard is None, normalise))
    return utterances


def read(path: Path, reference: Path | None) -> Result:
    """`read_result`, also of Kaldi's text."""
    return read_result(
        path,
        ASR.key,
        ASR.answer_fields,
        reference,
        read_reference=partial(read_transcripts, field=ASR.answer),
        read=partial(read_transcripts, field=ASR.answer_fields[0]),
    )


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = parse_args(__doc__, argv, add_language_flag)
    result = read(args.result, args.reference)
    normalise = normalisation_for(args.language) if args.language else normalisation_of(truths_of(result))
    utterances = align_items(result, normalise)
    scores = {
        "benchmark": ASR.name,
        "result": args.result.name,
        "broken": result.broken,
        "missing": result.missing,
        "language": args.language,  # None: told by the truths
        "normalisation": normalise.name,
        **summarise(utterances),
    }
    if args.compare:
        other = read(args.compare, args.reference)
        check_same_items(result, other)
        theirs = {u.key: u for u in align_items(other, normalise)}
        scores["broken"] += other.broken
        comparison = compare(utterances, [theirs[u.key] for u in utterances])
        scores["comparison"] = {"with": str(args.compare), **comparison}
    told_by = f"--language {args.language}" if args.language else "by the truths; --language CODE says otherwise"
    table = [f"asr: {args.result}\n{format_rates(scores)}", f"normalisation: {normalise.about} ({told_by})"]
    if not normalise.has_words:
        table.append("no word error rate: the script has no spaces to tell words by")
    if args.compare:
        rate = "wer" if normalise.has_words else "cer"
        table.append(
            f"compared with {args.compare}: {rate.upper()} {percent(comparison[rate])} there, "
            f"{100 * comparison[f'{rate}_difference']:+.1f} points here, 95 % "
            f"{format_interval(comparison[f'{rate}_difference_interval'])}"
        )
    if scores["errors"]:
        table.append(f"{scores['errors']} item(s) have no answer and count as all deleted")
    edits = {u.key: u.words if normalise.has_words else u.characters for u in utterances}
    worst = sorted((u for u in utterances if edits[u.key].errors), key=lambda u: (-edits[u.key].rate, u.key))[
        :MAX_NAMED
    ]
    table += [f"{u.key}: {percent(edits[u.key].rate)}\n  said:  {u.reference}\n  heard: {u.hypothesis}" for u in worst]
    return report(args.result, scores | {"worst": [asdict(u) for u in worst]}, "\n".join(table))


def add_language_flag(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--language",
        type=language_code,
        metavar="CODE",
        help="of the texts: en, de, ja, ... (default: told by the truth)",
    )


if __name__ == "__main__":
    sys.exit(main())

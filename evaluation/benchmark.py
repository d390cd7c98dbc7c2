"""What describes a benchmark: its fields, and what can be told of its records by them.

Light imports only: scorers read the table of benchmarks.py, and do not wait for PyTorch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.offered import right_choices


@dataclass(frozen=True)
class AnswerSettings:
    """How long an answer is, and in how many steps it comes (see `GenerationOptions`)."""

    steps: int
    block_length: int
    max_new_tokens: int


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark's files hold, how it is asked, and how it is scored.

    Attributes:
        name: of its folder with evaluate.py, in its scores files and in evaluation/published_scores.json.
        title: what people call it.
        file: the file with its items, below data/; empty where there is no usual place.
        source: where file and audio can be had, for a message.
        required: fields that every record has, and their types.
        audio: the field that names the record's clip.
        prompt: a record's instruction; may import what scorers do without.
        settings: the published ones, by model family.
        settings_of: the benchmark whose settings these are, where DIFFA publishes none.
        answer_fields: where result files have the answer: readers differ, so it is written to all of them.
        key: tells a record from the others of the file; raises KeyError where it cannot.
        form: brings a record that is published in another form to that of `required`.
        problem: what is wrong with a record besides missing fields, in words; empty where nothing is.
        as_list: whether results are one JSON list, not JSON Lines.
        items: how many questions the published benchmark has; 0 where that is not one number.

    Of multiple-choice benchmarks alone:
        choices: a record's choices in the order of their letters, None for a letter that is not on offer.
        answer: the field with the right choice's text.
        withheld: who scores items whose right choice is not published; empty where all are.
        official: the published rule (see `official_rules`).
        leaves_out: whether another published rule, the benchmark's authors', leaves an item with this answer out of its
            denominator.
        no_official: why there may be no official score here, and where it can be had.
        columns: what the rates of `official`, over all items and over those that are not left out, are called.
        published_rate: which of these two published scores are, as scores files name them.
        levels: fields that scores are broken down by.
        is_scored: whether a record is one that is scored here.
        first_level: of these, the one whose groups are axes of the radar chart where there are few benchmarks.
    """

    name: str
    title: str
    file: str
    source: str
    required: Mapping[str, type | tuple[type, ...]]
    audio: str
    prompt: Callable[[Mapping], str]
    settings: Mapping[str, AnswerSettings]
    answer_fields: Sequence[str]
    key: Callable[[Mapping], str]
    settings_of: str = ""
    form: Callable[[Mapping], dict] = dict
    problem: Callable[[Mapping], str] = lambda record: ""
    as_list: bool = False
    items: int = 0
    choices: Callable[[Mapping], list[str | None]] = lambda record: []
    answer: str = ""
    withheld: str = ""
    official: Callable[[str, str, Sequence[str | None]], bool] | None = None
    leaves_out: Callable[[object], bool] = lambda answer: False
    no_official: str = ""
    columns: tuple[str, str] = ("official", "")
    published_rate: str = "official"  # or "official_decided"
    is_scored: Callable[[Mapping], bool] = lambda record: True
    levels: Sequence[str] = ()
    first_level: str = ""


def answers_not_offered(benchmark: Benchmark, items: Iterable[tuple[object, Mapping]]) -> list[str]:
    """Of multiple-choice items, given as (name, record), those whose answer is none of their choices, in words."""
    found = []
    for name, record in items:
        choices = benchmark.choices(record)
        answer = record[benchmark.answer] if choices else None
        if not choices or answer in choices:
            continue
        meant = [choices[index] for index in sorted(right_choices(answer, choices))]
        effect = f"taken for {meant[0]!r:.60}" if meant else "no answer can be strictly right"
        found.append(f"{name}: {benchmark.answer} {answer!r:.60} is none of the choices {choices!r:.100}; {effect}")
    return found


def is_withheld(benchmark: Benchmark, record: Mapping) -> bool:
    """Whether the record's right choice is not published."""
    return bool(benchmark.withheld) and record.get(benchmark.answer) in (None, "")

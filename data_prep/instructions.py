"""Instructions about clips, drawn from an editable pool, and what a text LLM is told of a clip to answer them."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.corpus import describe
from src.errors import UserError
from src.manifest import ManifestError, Sample

KINDS = ("description", "content", "attribute", "choice")
MAX_CHOICES = 4


class PoolError(UserError):
    """A pool of instructions that cannot be used; the message says why."""


@dataclass(frozen=True)
class Pool:
    """Instructions to draw from."""

    system: str  # what the LLM is told first
    by_kind: Mapping[str, Sequence[tuple[str, str]]]  # (attribute or "", instruction)
    digest: str

    @classmethod
    def read(cls, path: Path) -> "Pool":
        """Raises PoolError."""
        try:
            content = path.read_bytes()
            pool = json.loads(content)
            by_kind = {kind: tuple(instructions_of(pool, kind)) for kind in KINDS}
            if not isinstance(pool["system"], str):
                raise TypeError("system is no text")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PoolError(
                f"{path} is no pool of instructions ({type(error).__name__}: {error}). Expected an object with system, "
                "a text; description and content, lists of texts; attribute and choice, such lists by attribute"
            ) from None
        for attribute, instruction in by_kind["choice"]:
            if "{choices}" not in instruction:
                raise PoolError(f"{path}, choice, {attribute}: {instruction!r} has no {{choices}} to fill in: add it")
        return cls(pool["system"], by_kind, hashlib.sha256(content).hexdigest()[:16])


def instructions_of(pool: Mapping, kind: str) -> Iterator[tuple[str, str]]:
    """Yield (attribute, instruction) of one kind; the attribute is empty where the kind has none."""
    lists = pool[kind].items() if kind in ("attribute", "choice") else [("", pool[kind])]
    for attribute, instructions in lists:
        for instruction in instructions:
            if not isinstance(instruction, str) or isinstance(instructions, str):
                raise TypeError(f"{kind} holds {instruction!r}, which is not a text in a list")
            yield attribute, instruction


@dataclass(frozen=True)
class Request:
    """One question about one clip."""

    sample: Sample
    number: int  # of the clip's questions, from 0
    kind: str
    instruction: str

    def messages(self, system: str) -> list[dict]:
        content = f"What is known:\n{compose_description(self.sample)}\n\nInstruction: {self.instruction}"
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def compose_description(sample: Sample) -> str:
    """What the LLM gets to know of a clip."""
    words = f'The words: "{sample.transcription}"' if sample.transcription else ""
    lines = [f"The recording lasts {sample.duration:.1f} seconds.", describe(attributes_of(sample)), words]
    return "\n".join(line for line in lines if line)


def attributes_of(sample: Sample) -> dict:
    """The sample's attributes that have a value, a text or a number; none if the manifest has none."""
    attributes = sample.extra.get("attributes")
    named = attributes.items() if isinstance(attributes, dict) else ()
    return {name: value for name, value in named if value and isinstance(value, (str, int, float))}


def draw_requests(samples: Sequence[Sample], pool: Pool, per_clip: int, seed: int) -> list[Request]:
    """`per_clip` different instructions for each clip, fewer where the pool has no more that fit; kinds equally often.

    Nothing is drawn twice for a clip, and an audio file that is there twice counts once. Raises ManifestError where two
    files have one audio_id.
    """
    values = attribute_values(samples)
    requests = []
    for sample in different_clips(samples):
        rng = random.Random(f"{seed} {sample.audio_id}")
        fitting = {kind: fitting_instructions(sample, pool, kind, values) for kind in KINDS}
        for instructions in fitting.values():
            rng.shuffle(instructions)
        for number in range(per_clip):
            kinds = [kind for kind in KINDS if fitting[kind]]
            if not kinds:
                break
            kind = rng.choice(kinds)
            attribute, instruction = fitting[kind].pop()
            if kind == "choice":
                instruction = fill_in_choices(instruction, attributes_of(sample)[attribute], values[attribute], rng)
            requests.append(Request(sample, number, kind, instruction))
    return requests


def different_clips(samples: Sequence[Sample]) -> list[Sample]:
    """The first sample of each audio file. Raises ManifestError where two files have one audio_id."""
    clips: dict[Path, Sample] = {}
    by_id: dict[str, Path] = {}
    for sample in samples:
        file = sample.audio_filepath.absolute()
        other = by_id.setdefault(sample.audio_id, file)
        if other != file:
            raise ManifestError(
                f"{file} and {other} have one audio_id, {sample.audio_id}: rename one, to tell them apart"
            )
        clips.setdefault(file, sample)
    return list(clips.values())


def fitting_instructions(
    sample: Sample, pool: Pool, kind: str, values: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """The instructions of a kind that can be answered from what is known of the clip."""
    known = attributes_of(sample)
    if kind == "content":
        return list(pool.by_kind[kind]) if sample.transcription else []
    if kind == "description":
        return list(pool.by_kind[kind]) if sample.transcription or known else []
    return [
        (attribute, instruction)
        for attribute, instruction in pool.by_kind[kind]
        if attribute in known and (kind == "attribute" or len(values[attribute]) > 1)
    ]


def attribute_values(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """All values of each attribute, as text, sorted."""
    values: dict[str, set[str]] = {}
    for sample in samples:
        for name, value in attributes_of(sample).items():
            values.setdefault(name, set()).add(str(value))
    return {name: sorted(found) for name, found in values.items()}


def fill_in_choices(instruction: str, right: str, values: Sequence[str], rng: random.Random) -> str:
    """The instruction with the right value among up to three others, in any order."""
    others = [value for value in values if value != str(right)]
    choices = [str(right), *rng.sample(others, min(len(others), MAX_CHOICES - 1))]
    rng.shuffle(choices)
    return instruction.replace("{choices}", ", ".join(choices))

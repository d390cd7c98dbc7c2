"""Fault tolerance: answers are on disk as soon as they are made, and a run started again makes what is missing."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from src.errors import UserError
from src.files import write_file
from src.provenance import is_same

NO_AUDIO = "-"  # in the meta file's list, which has one word an item


class ResumeError(UserError):
    """Answers already on disk were made in another way; the message names the difference and what to do."""


@dataclass(frozen=True)
class AnswerRecord:
    """What the model said about one item, or why it could not."""

    text: str
    error: str | None = None  # audio that could not be used
    audio: str | None = None  # tells the sound that was heard from others; None where nobody asks


class Journal:
    """The answers to one benchmark file, by the item's place in it.

    While a run goes on they stand in `<output>.partial`, one line each, below a line with the settings; with several
    ranks, each writes its own `<output>.partial.<rank>`. At the end the output is written whole and renamed, and
    `<output>.meta.json` keeps the settings. Items with an error count as missing: a later run tries them again.
    """

    def __init__(
        self,
        output: Path,
        field: str | Sequence[str],
        settings: Mapping,
        as_list: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Read what earlier runs left.

        Args:
            field: name of the answer in the output's records; or several, each of which holds it.
            settings: everything the answers depend on; all values JSON.
            as_list: write one JSON list instead of JSON Lines.

        Raises ResumeError if the answers on disk were made with other settings.
        """
        self.output, self.settings, self.as_list = output, dict(settings), as_list
        self.fields = (field,) if isinstance(field, str) else tuple(field)
        self.meta = meta_path(output)
        self.path = output.with_name(f"{output.name}.partial" + (f".{rank}" if world > 1 else ""))
        self.answers: dict[int, AnswerRecord] = {}
        if is_written(output):
            self._read_output()
        for path in filter(is_written, partial_files(output)):
            self._read_partial(path)

    def is_missing(self, index: int) -> bool:
        return index not in self.answers or self.answers[index].error is not None

    def check_others(self) -> None:
        """Raise ResumeError where a run with other settings has answered or ended since this journal was read."""
        self._check_output()
        for path in filter(is_written, partial_files(self.output)):
            check_settings((read_lines(path) or [{}])[0].get("settings", {}), self.settings, path)

    def append(self, answers: Mapping[int, AnswerRecord]) -> None:
        """Put new answers on disk. Raises ResumeError where another run, with other settings, was there before."""
        if not is_written(self.path):
            self.check_others()
        append_lines(
            self.path, self.settings, ({"index": index, **asdict(answer)} for index, answer in answers.items())
        )
        self.answers.update(answers)

    def finish(self, records: Sequence[Mapping], meta: Mapping) -> None:
        """Write the records with their answers, in order, and what is told of the run as `meta`.

        Raises ResumeError where another run's output has come there; these answers stay beside it.
        """
        rows = []
        for index, record in enumerate(records):
            answer = self.answers[index]
            told = dict.fromkeys(self.fields, answer.text) | ({"error": answer.error} if answer.error else {})
            rows.append({**record, **told})
        told = {"settings": self.settings, **meta}
        if any(answer.audio for answer in self.answers.values()):
            told["audio"] = " ".join(self.answers[index].audio or NO_AUDIO for index in range(len(records)))
        self._check_output()
        write_file(self.meta, json.dumps(told, indent=1, default=str) + "\n")
        if self.as_list:
            text = json.dumps(rows, indent=1, ensure_ascii=False, default=str) + "\n"
        else:
            text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        write_file(self.output, text)
        for path in partial_files(self.output):
            path.unlink()

    def _read_output(self) -> None:
        if not self.meta.exists():
            raise ResumeError(
                f"{self.output} exists, but {self.meta.name} does not say how it was made. "
                "Choose another output, or move that file away"
            )
        meta = json.loads(self.meta.read_text(encoding="utf-8"))
        check_settings(meta["settings"], self.settings, self.output)
        text = self.output.read_text(encoding="utf-8")
        rows = json.loads(text) if self.as_list else map(json.loads, text.split("\n")[:-1])
        audio = (None if word == NO_AUDIO else word for word in meta.get("audio", "").split())
        for index, row in enumerate(rows):  # of which there may be fewer: a run was killed before it wrote them
            text = next(row[field] for field in self.fields if field in row)
            self._keep(index, AnswerRecord(text, row.get("error"), next(audio, None)))

    def _check_output(self) -> None:
        if is_written(self.output) and is_written(self.meta):
            check_settings(json.loads(self.meta.read_text(encoding="utf-8"))["settings"], self.settings, self.output)

    def _read_partial(self, path: Path) -> None:
        first, *entries = read_lines(path) or [{}]  # a damaged file: refused, since it does not say how it was made
        check_settings(first.get("settings", {}), self.settings, path)
        for entry in entries:
            self._keep(entry["index"], AnswerRecord(entry["text"], entry["error"], entry.get("audio")))

    def _keep(self, index: int, answer: AnswerRecord) -> None:
        if self.is_missing(index):
            self.answers[index] = answer


def check_settings(before: Mapping, now: Mapping, path: Path) -> None:
    """Raise ResumeError unless answers at `path`, made with the settings `before`, go with those made `now`."""
    different = differences(before, now)
    if different:
        raise ResumeError(
            f"{path} holds answers made with other settings: {different}. "
            "Use the same settings, choose another output, or pass --overwrite to start afresh"
        )


def read_lines(path: Path) -> list[dict]:
    """The lines that `append_lines` wrote, settings first, without the half line that a kill may have left."""
    entries = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # what it was about is missing, and made again
    return entries


def append_lines(path: Path, settings: Mapping, entries: Iterable[Mapping]) -> None:
    """Put entries on disk, one line each; a new file begins with a line that holds the settings, written with them.

    Raises ResumeError where that line has others: another run has begun since, and has its answers there.
    """
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    if not is_written(path):
        write_file(path, json.dumps({"settings": settings}) + "\n" + lines)
        return
    with path.open("r+b") as file:
        check_settings(json.loads(file.readline())["settings"], settings, path)
        file.seek(-1, os.SEEK_END)
        within_line = file.read(1) != b"\n"  # an earlier run was killed while it wrote
        file.write(("\n" * within_line + lines).encode())


def differences(before: Mapping, now: Mapping) -> str:
    """What is not the same in both, in words; empty where nothing is."""
    names = [name for name in sorted({*before, *now}) if not is_same(before.get(name), now.get(name))]
    return "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names)


def is_written(path: Path) -> bool:
    """Whether there is a file with something in it: calls that make a temporary file leave an empty one."""
    return path.exists() and path.stat().st_size > 0


def meta_path(output: Path) -> Path:
    """Where it is told how `output` was made."""
    return output.with_name(f"{output.name}.meta.json")


def partial_files(output: Path) -> list[Path]:
    """The unfinished answers beside `output`, of every rank."""
    name = f"{output.name}.partial"
    return sorted(path for path in output.parent.glob("*") if path.name == name or path.name.startswith(f"{name}."))


def remove_answers(output: Path) -> None:
    """Delete an output, finished or not, and what belongs to it; of a link, what it leads to.

    Raises ResumeError for a file that does not say that it was made by a run like this: it may be anything.
    """
    beside = [path for path in (meta_path(output), *partial_files(output)) if path.exists()]
    if is_written(output) and not beside:
        raise ResumeError(
            f"{output} is not overwritten: no {meta_path(output).name} beside it says that it holds answers. Choose "
            "another output, or delete it yourself"
        )
    for path in (output, *beside):
        path.resolve().unlink(missing_ok=True)

"""The judge's rubric, and parsing its replies."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from evaluation.endpoint import visible_answer
from evaluation.result_files import BenchmarkFileError
from voicebench.verdicts import JudgeQuestion

KINDS = {"open": ("prompt", "response"), "qa": ("prompt", "reference", "response")}  # what a rubric must mention


@dataclass(frozen=True)
class Rubric:
    """Instructions to the judge, with places for what is judged."""

    system: str
    user: str

    @classmethod
    def read(cls, path: Path, kind: str) -> "Rubric":
        """Raises BenchmarkFileError if the file is missing or does not mention what is to be judged."""
        if not path.is_file():
            raise BenchmarkFileError(f"{path}: no such rubric")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BenchmarkFileError(f"{path}: not a text in UTF-8 ({error}). Convert the file") from None
        lacking = [f"{{{name}}}" for name in KINDS[kind] if f"{{{name}}}" not in text]
        if lacking:
            raise BenchmarkFileError(f"{path}: a rubric for this subset must hold {', '.join(lacking)}")
        system, dashes, user = text.partition("\n---\n")
        return cls(system.strip(), user.strip()) if dashes else cls("", text.strip())

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.system}\n---\n{self.user}".encode()).hexdigest()[:16]

    def messages(self, question: JudgeQuestion) -> list[dict]:
        response = question.response.strip()
        fields = {"prompt": question.prompt, "response": response, "reference": question.reference or ""}
        # In one pass: an answer that holds "{prompt}" stays as it is.
        user = re.sub(r"\{(prompt|response|reference)\}", lambda match: fields[match[1]], self.user)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]


_NUMBER = r"(\d+(?:\.\d+)?)"
_NAME = r"\b(?:score|rating|grade)\b"
_ALONE = re.compile(rf"\W*(?:{_NAME}\W+(?:is\W+)?)?{_NUMBER}(?:\s*(?:/|out of)\s*5|\s*points?)?\W*", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[\[{_NUMBER}\]\]")
_NAMED = re.compile(rf"{_NAME}(?: is|:| =)\s*{_NUMBER}", re.IGNORECASE)
_VOTE = re.compile(r"\W*(yes|no)\b\s*(?:$|[^\w\s])", re.IGNORECASE)


def parse_rating(reply: str) -> float | None:
    """The number from 1 to 5 that `reply` gives: "4", "4/5", "[[4]]", "Rating: 4", ...; None for anything else."""
    text = visible_answer(reply).replace("*", "")
    alone = _ALONE.fullmatch(text)
    said = [alone[1]] if alone else _BRACKETED.findall(text) or _NAMED.findall(text)
    ratings = {float(number) for number in said}
    return ratings.pop() if len(ratings) == 1 and 1 <= min(ratings) <= 5 else None


def parse_vote(reply: str) -> float | None:
    """1 for a yes, 0 for a no, None for anything else; what follows the word and a mark is not read."""
    vote = _VOTE.match(visible_answer(reply))
    return None if not vote else float(vote[1].lower() == "yes")

"""The judge's rubric."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

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
            raise BenchmarkFileError(f"{path}: no such rubric; check the path")
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

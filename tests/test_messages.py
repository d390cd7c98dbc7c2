"""Every error that a user can be shown: a test asks for its words, and they say what to do.

The places are read off the code: a new error without a test of its message, or without a way out, fails here. Most are
tested beside what raises them; the table at the end provokes the others.
"""

import argparse
import ast
import asyncio
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from data_prep import vctk
from data_prep.corpus import choose_splits
from demo import diffa2_summary
from evaluation.benchmarks import MMSU
from evaluation.result_files import read_entries
from evaluation.runner import BenchmarkItem, Runner
from evaluation.scoreboard import ScoreEntry, read_runs
from evaluation.scoring import run_scorer
from evaluation.tasks import swap
from inference_stage2_voicebench import read_parquet
from serving.protocol import RequestError
from serving.uploads import Uploads
from src.audio import read_audio
from src.checkpoint import check_names
from src.errors import UserError
from src.files import check_outputs
from src.flag_types import finite_number, whole_number
from src.frozen_parts import check_size
from src.lora import read_alpha
from tests.audio_files import sweep_file
from tests.evaluation.small_runs import ROOT, question, write_lines, write_parquet
from voicebench import evaluate as voicebench
from voicebench import subsets
from voicebench.rubric import Rubric

ROOTS = {"UserError", "RequestError", "ArgumentTypeError"}  # what is shown to users, and what is derived from it
MIN_FRAGMENT = 10  # characters of a message, in a row, that a test must ask for
# Words that tell a way out, or what is expected.
WAY_OUT = re.compile(
    r"\?|expect|source|withheld|such as|\b(must|only|needs?|at least|at most|once|where|free|is for|"
    r"pass|choose|use|give|leave|lower|raise|make|mend|add|take|try|copy|convert|fetch|download|export|remove|delete|rename|"
    r"repair|rewrite|save|send|start|resume|repeat|wait|check|shorten|cut it|mix it|score|judge|run|install|put|set|"
    r"say|finish|allow|compare|move|write|train|attach|unpack|listen|bring|keep|reinstall|put it there|look|ask)\b",
    re.IGNORECASE,
)
# What has no way out but another input, or whose way out is put behind it by what is named.
ENOUGH_SAID = {
    "no such audio file": "another path",
    "the gzip body is": "another body",
    "the body says Content-Encoding gzip and": "another body",
    "is empty (0 bytes)": "another recording",
    "is silent": "another recording",
    "holds no samples": "another recording",
    "holds NaN or infinite samples": "another recording",
    "expected mono samples": "the caller's",
    "its header": "AudioError: export it anew",
    "its Info frame is damaged": "AudioError: export it anew",
    "not readable as audio (its header is cut)": "AudioError: export it anew",
    "the question ": "a fault of faults_of: what it holds",
    "cannot be read as weights": "damage_of: download it again",
    "the checkpoint has shape": "check_names: another checkpoint",
    "cannot be trained on": "told: what each line says; python -m src.manifest check names them all",
    "config.json": "LLaDAConfig: its own words",
}


@dataclass(frozen=True)
class Message:
    """An error in the code."""

    place: str
    pieces: tuple[str, ...]  # what it always says
    names: tuple[str, ...]  # of what it fills in; of constants their text

    @property
    def own(self) -> list[str]:
        """The pieces that are words of its own, rather than punctuation between those of other errors."""
        return [piece for piece in self.pieces if len(piece.strip()) >= MIN_FRAGMENT]


@cache
def parsed() -> dict[Path, ast.Module]:
    own = [path for path in ROOT.rglob("*.py") if not {"tests", ".venv", "perf"} & set(path.relative_to(ROOT).parts)]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in own}


@cache
def messages() -> list[Message]:
    """All that user errors say, and `parser.error`."""
    bases = {
        node.name: {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
        for tree in parsed().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    kinds = set(ROOTS)
    while new := {name for name, above in bases.items() if above & kinds} - kinds:
        kinds |= new
    constants = {
        target.id: node.value.value
        for tree in parsed().values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or not call.args:
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            is_parser = name == "error" and getattr(call.func.value, "id", "") == "parser"
            if (isinstance(node, ast.Raise) and name in kinds) or is_parser:
                pieces = [part.value for part in ast.walk(call.args[0]) if isinstance(part, ast.Constant)]
                pieces = tuple(piece for piece in pieces if isinstance(piece, str))
                names = [part for part in ast.walk(call.args[0]) if isinstance(part, (ast.Name, ast.Attribute))]
                named = [getattr(part, "id", getattr(part, "attr", "")) for part in names]
                found.append(
                    Message(
                        f"{path.relative_to(ROOT)}:{node.lineno}", pieces, tuple(constants.get(n, n) for n in named)
                    )
                )
    return found


@cache
def asked_for() -> str:
    """All texts in tests, of patterns the backslashes left out."""
    nodes = (
        node
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    return "\n".join(
        node.value.replace("\\", "") for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def is_asked_for(piece: str, length: int = 16) -> bool:
    """Whether a test has the piece, or `length` characters in a row of it."""
    starts = range(max(1, len(piece) - length + 1))
    return any(piece[start : start + length].strip() in asked_for() for start in starts)


def test_there_are_as_many_as_there_should_be():
    assert len(messages()) > 250
    assert sum(not message.own for message in messages()) < 40  # which pass on what another one says


def test_every_message_is_asked_for_by_a_test():
    untested = [message for message in messages() if message.own and not any(map(is_asked_for, message.own))]
    assert not untested, "\n".join(f"{message.place}: {' ... '.join(message.own)}" for message in untested)


def test_every_message_says_what_is_expected_or_what_to_do():
    def says_it(message: Message) -> bool:
        text = " ".join((*message.pieces, *message.names))
        return WAY_OUT.search(text) is not None or any(beginning in text for beginning in ENOUGH_SAID)

    silent = [message for message in messages() if message.own and not says_it(message)]
    assert not silent, "\n".join(f"{message.place}: {' ... '.join(message.own)}" for message in silent)


# --- those that no other test provokes ------------------------------------------------------------------------------


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def scores(folder: Path, text: str) -> list[ScoreEntry]:
    return read_runs([file(folder, "a.jsonl.scores.json", text)], ["run"])


def vctk_of_noise(folder: Path, *flags: str) -> int:
    clip = folder / "root" / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.flac"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"no sound")
    (folder / "root" / "txt" / "p225").mkdir(parents=True)
    file(folder / "root" / "txt" / "p225", "p225_001.txt", "Hello.")
    file(
        folder / "root",
        "speaker-info.txt",
        "ID  AGE  GENDER  ACCENTS  REGION\np225  23  F  English  England\n",
    )
    return vctk.main([str(folder / "root"), str(folder / "out.json"), *flags])


def scorer_with_a_broken_reference(folder: Path) -> int:
    result = write_lines(folder / "r.jsonl", [question(1, response="A")])
    return run_scorer(MMSU, "", [str(result), "--reference", str(write_lines(folder / "q.jsonl", ["no object"]))])


def scorer_of_a_judge_that_does_not_judge(folder: Path) -> int:
    record = {"prompt": "q", "response": "r", "score": ["great"]}
    return voicebench.main([str(write_lines(folder / "m-commoneval-test-audio.jsonl", [record]))])


def meta_of_a_broken_run(folder: Path) -> dict:
    file(folder, "r.jsonl.meta.json", "{")
    return subsets.told_beside(folder / "r.jsonl")


def training_without_evaluation(folder: Path) -> dict:
    (folder / "stage4").mkdir()
    file(folder / "stage4", "trainer_state.json", json.dumps({"log_history": [{"loss": 1.0}]}))
    return diffa2_summary.summarise(folder)


def answers_that_stay_elsewhere(folder: Path) -> bool:
    """As where ranks see different disks."""
    runner = Runner.__new__(Runner)
    runner.args, runner.ranks = argparse.Namespace(limit=None, swap_audio=False), argparse.Namespace(rank=0, world=2)
    journal = argparse.Namespace(answers={}, is_missing=lambda index: True)
    runner.open = lambda task: journal
    runner.answer_items = lambda items, journal: argparse.Namespace(speed=lambda ranks: {})
    item = BenchmarkItem({}, "q", folder / "a.wav")
    return runner.answer(argparse.Namespace(items=[item], output=folder / "o.jsonl", about=None))


def upload(held: int, pause: float) -> bytes:
    """What comes of a body while `held` bytes of others are in memory, and after `pause` seconds."""

    class Slow:
        def __init__(self) -> None:
            self.headers = {"content-type": "application/json"}

        async def stream(self):
            await asyncio.sleep(pause)
            yield b"{}"

    async def read():
        uploads = Uploads(10)
        uploads.held = held
        async with uploads.read(Slow()) as body:
            return body

    return asyncio.run(read())


PROVOKED = [
    (
        lambda folder: read_parquet(write_parquet(folder / "a.parquet", [{"audio": None, "prompt": "q"}]), None),
        "a.parquet row 1: no `audio` with bytes or a path in it: download the file again",
    ),
    (
        lambda folder: check_size("Whisper", "--whisper_path", "w", {"d_model": 8}, {"d_model": 9}, ["d_model"]),
        "the adapters were trained on a Whisper with d_model 8, but w has 9; pass the Whisper they were trained on",
    ),
    (
        lambda folder: check_outputs([folder], []),
        " is a folder; pass the path of a file, perhaps one in it",
    ),
    (
        lambda folder: check_outputs([folder / ("a" * 250)], []),
        ": the name has 250 bytes, expected at most 2",
    ),
    (
        lambda folder: check_outputs([Path("/dev/null")], []),
        "/dev/null is a device, no file, and nothing can be renamed to it; pass a file's path",
    ),
    (
        lambda folder: check_names("a.bin", {"x"}, {"y"}),
        "a.bin does not fit the model (is it another one's?); missing: x; unexpected: y",
    ),
    (lambda folder: whole_number(1)("1e3"), "'1e3' is no whole number; expected one such as 1"),
    (lambda folder: finite_number("a"), "'a' is no number; expected one such as 0.5"),
    (lambda folder: scores(folder, "{"), "a.jsonl.scores.json: not JSON ("),
    (
        lambda folder: scores(folder, '{"benchmark": "asr"}'),
        " in these scores. Score the result again",
    ),
    (
        lambda folder: scores(folder, '{"benchmark": "mmsu", "levels": 1}'),
        "a.jsonl.scores.json: not as evaluate.py writes scores (",
    ),
    (lambda folder: read_entries(file(folder, "q.json", '[{"id": 1}')), ". Repair or rewrite the file"),
    (
        lambda folder: read_runs([folder, folder, folder], ["a", "b"]),
        "--names has 2 names for 3 files; give one for each, or one for all",
    ),
    (
        lambda folder: read_alpha(file(folder, "adapter_config.json", '{"peft_type": "ADALORA"}'), {}, None),
        "adapter_config.json: peft_type is 'ADALORA'; only 'LORA' is implemented",
    ),
    (
        lambda folder: read_audio(sweep_file("wav")[:30], name="clip.wav"),
        "clip.wav: not readable as audio (its header is cut); export it anew",
    ),
    (scorer_with_a_broken_reference, "q.jsonl: mend it, or pass another one"),
    (lambda folder: swap(1, 0), "--swap_audio needs at least two items"),
    (meta_of_a_broken_run, "Delete it, and pass --evaluator"),
    (scorer_of_a_judge_that_does_not_judge, "'great' in score is no verdict: judge it anew"),
    (
        lambda folder: Rubric.read(file(folder, "rubric.txt", "{prompt}"), "open"),
        "rubric.txt: a rubric for this subset must hold {response}",
    ),
    (training_without_evaluation, "/stage4 logged no eval_"),
    (
        lambda folder: choose_splits(["a", "b"], ["c"], ["a"]),
        "there is no split 'c'; found a, b; choose one of them",
    ),
    (vctk_of_noise, ": no usable clip, 1 left out. Is all of it unpacked? --help shows the layout"),
    (
        lambda folder: vctk_of_noise(folder, "--dev_fraction", "1"),
        "--dev_fraction must be less than 1, found 1.0",
    ),
    (
        answers_that_stay_elsewhere,
        "o.jsonl: its folder must be one that all machines see. Copy their .partial files there and start again",
    ),
    (lambda folder: upload(1000, 0), "too many requests are being uploaded; try again in 1 s"),
    (
        lambda folder: upload(0, 1),
        "nothing of the request came for 0.01 s, or not all of it within 60 s: send it again",
    ),
]


@pytest.mark.parametrize(("provoke", "message"), PROVOKED, ids=[message[:40] for _, message in PROVOKED])
def test_a_message(provoke, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("serving.uploads.MAX_PAUSE_SECONDS", 0.01)
    try:
        status = provoke(tmp_path)
        assert status == 2
    except SystemExit as ended:  # argparse's
        assert ended.code == 2
    except (UserError, RequestError, argparse.ArgumentTypeError) as error:
        assert message in str(error)
        return
    assert message in capsys.readouterr().err

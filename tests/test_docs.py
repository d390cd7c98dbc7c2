"""The documents' commands name scripts that exist, with flags and variables that those know."""

import argparse
import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runpy's, of modules that are imported already
ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "demo/README.md", "examples/README.md")
    for path in ROOT.glob(pattern)
)
SHELL = "".join(path.read_text() for pattern in ("*.sh", "config/*") for path in ROOT.glob(pattern) if path.is_file())
# Commands that no test runs, because they need checkpoints, corpora, results or memory that this repository has not.
NEEDS_MORE = re.compile(
    r"\b(exp|models|data|results|voicebench)/|RESULT|FILE|DIR|CHECKPOINT|report\b|(mmsu|mmau|other)\.json|zhoujiaming777"
    r"|LLaDA|TRAIN_DATASET|STAGE1_CKPT|sbatch|perf/(full_size|presets)\.py|\.venv-(eval|lmms)"
)
RUN_BY = {  # how other commands begin, and what runs them, at full size or smaller
    "bash setup.sh": ".ci/run",
    "bash test.sh": ".ci/run",
    "bash demo.sh": "tests/test_demo.py",
    "python ask.py examples/": "tests/test_ask.py",
    "python app.py": "tests/test_app_browser.py",
    "python serve.py": "tests/test_serve.py",
    "python train.py": "tests/test_train.py",
    "python -m src.manifest check": "tests/src/test_manifest_check.py",
    "python -m src.export": "tests/src/test_export.py",
    "python examples/make_clips.py": "tests/examples/test_make_clips.py",
    "python perf/decoding.py": "tests/perf/test_decoding.py",
    "python perf/training.py": "tests/perf/test_training.py",
    "python perf/preference.py": "tests/perf/test_preference.py",
    "python perf/feeding.py": "tests/perf/test_feeding.py",
    "python perf/training_budget.py": "tests/perf/test_training_budget.py",
    "python perf/real_shape.py": "tests/perf/test_real_shape.py",
    "python perf/launches.py": "tests/perf/test_launches.py",
    "python perf/gpu.py": "tests/perf/test_gpu.py",
    "bash perf/gpu.sh": "tests/perf/test_gpu.py",
}
OTHERS = ("torch.distributed.run", "venv", "pytest", "lmms_eval")  # modules of other packages


class Stop(BaseException):
    """Raised in place of parsing."""


def commands(document: str) -> list[str]:
    """What a document has in code and begins, after variables, with python, bash or sbatch; each on one line."""
    text = re.sub(r" *\\\n\s*", " ", (ROOT / document).read_text(encoding="utf-8"))
    code = re.findall(r"^    (.*)$", text, flags=re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    parts = [part.strip() for line in code for part in re.split(r";|&&|\|", line.partition("  # ")[0])]
    return [
        part for part in parts if re.match(r"""(?:[A-Z0-9_]+=(?:"[^"]*"|\S*) )*(?:\S*python3? |bash |sbatch )""", part)
    ]


@cache
def flags_of(script: str) -> frozenset[str]:
    """The flags that a script's own parser knows."""
    found: list[argparse.ArgumentParser] = []

    def capture(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.append(parser)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", capture)
        patch.setattr(sys, "argv", [script])
        patch.setattr(sys, "path", [*sys.path])
        with pytest.raises(Stop):
            if script.endswith(".py"):
                runpy.run_path(str(ROOT / script), run_name="__main__")
            else:
                runpy.run_module(script, run_name="__main__")
    parsers = [found[0], *(p for a in found[0]._actions if isinstance(a.choices, dict) for p in subparsers(a))]
    return frozenset(flag for parser in parsers for flag in parser._option_string_actions)


def subparsers(action: argparse.Action) -> list[argparse.ArgumentParser]:
    return [parser for parser in action.choices.values() if isinstance(parser, argparse.ArgumentParser)]


def flags_of_shell(script: str) -> frozenset[str]:
    """A shell script hands its flags on to the Python scripts it names, itself or by what it sources."""
    text = (ROOT / script).read_text()
    text += "".join((ROOT / name).read_text() for name in re.findall(r"config/\w+\.sh|train_\w+\.sh", text))
    own = set(re.findall(r"--\w+", text))
    return frozenset(own.union(*(flags_of(name) for name in re.findall(r"\b(?:train|inference_\w+)\.py", text))))


def check(command: str) -> list[str]:
    """What is wrong with a command."""
    words = shlex.split(command)
    problems = []
    while re.match(r"[A-Z0-9_]+=", words[0]):
        name = words.pop(0).partition("=")[0]
        if f"${{{name}" not in SHELL and f"${name}" not in SHELL:
            problems.append(f"no script reads {name}")
    program, *words = words
    if program.endswith(("python", "python3")):
        if words[0] == "-m" and words[1] in OTHERS:
            return problems
        script = words[1] if words[0] == "-m" else words[0]
        path, known = f"{script.replace('.', '/')}.py" if words[0] == "-m" else script, flags_of
    else:  # bash, or sbatch with flags of its own
        script = path = next(word for word in words if not word.startswith("--"))
        known = flags_of_shell
    if "$" in path:  # a loop over scripts
        return problems
    if not (ROOT / path).exists():
        return [*problems, f"there is no {path}"]
    given = [word.partition("=")[0] for word in words[words.index(script) :] if word.startswith("--")]
    return problems + [f"{script} knows no {flag}" for flag in given if flag not in known(script)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_real(document):
    assert {command: check(command) for command in commands(document) if check(command)} == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_run_or_need_more_than_the_repository_has(document):
    neither = [c for c in commands(document) if not NEEDS_MORE.search(c) and not c.startswith(tuple(RUN_BY))]
    assert neither == []


@pytest.mark.parametrize(("command", "runner"), RUN_BY.items())
def test_the_runner_names_the_script(command, runner):
    script = command.split()[2] if "-m" in command else command.split()[1]
    text = (ROOT / runner).read_text()
    assert script.removeprefix("src.").rpartition("/")[2].removesuffix(".py").removesuffix(".sh") in text


def test_the_check_finds_what_is_wrong():
    assert check("python ask.py clip.wav 'Why?' --wach") == ["ask.py knows no --wach"]
    assert check("python -m src.reports a.json") == ["there is no src/reports.py"]
    assert check("BATCHSIZE=4 bash train_stage1.sh --max_stepz 3") == [
        "no script reads BATCHSIZE", "train_stage1.sh knows no --max_stepz",
    ]  # fmt: skip
    assert check("python -m src.manifest check data.json --llm_path X") == []
    assert sum(len(commands(document)) for document in DOCUMENTS) > 50


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_path_or_host_of_a_machine_is_in_a_document(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|mnt)/\S*", text) == []

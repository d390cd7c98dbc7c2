"""Who may import whom: `src` is the model, `evaluation` and `serving` are rooms beside it, imports point one way.

The imports are read from the files (ast), those inside functions included.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"src": {"src"}, "evaluation": {"evaluation", "src"}, "serving": {"serving", "src"}}  # and what each may import
MODULES = {
    f"{room}.{path.stem}": path for room in ROOMS for path in (ROOT / room).glob("*.py") if path.stem != "__init__"
}
PACKAGES = {path.parent.name for path in ROOT.glob("*/*.py")} | {path.stem for path in ROOT.glob("*.py")}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def imported(source: str) -> set[str]:
    """Dotted names a file imports; of `from a import b`, both a and a.b, since b may be a module."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def arrows() -> dict[str, set[str]]:
    """The rooms' modules, and which of them each imports."""
    return {name: imported(path.read_text()) & set(MODULES) - {name} for name, path in MODULES.items()}


def listed(room: str) -> list[str]:
    """A room's modules, in the order of docs/architecture.md."""
    block = re.search(rf"^    {room}/\n((?:      .*\n)+)", ARCHITECTURE, flags=re.MULTILINE)
    assert block, f"docs/architecture.md has no list of {room}/"
    return [f"{room}.{name}" for name in re.findall(r"^      (\w+)\.py ", block[1], flags=re.MULTILINE)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_itself_and_the_model_alone(room):
    wrong = [
        f"{name} -> {other}"
        for name, path in MODULES.items()
        if name.startswith(f"{room}.")
        for other in imported(path.read_text())
        if (top := other.partition(".")[0]) in PACKAGES and top not in ROOMS[room]
    ]
    assert wrong == []


def test_the_plain_reference_is_for_tests_and_measurements():
    users = [path for path in ROOT.glob("*/*.py") if "tests.reference" in imported(path.read_text())]
    assert {path.parent.name for path in users} <= {"perf", "tests"}


def test_imports_go_in_no_circle():
    open_, done = [], set()

    def visit(name: str) -> None:
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name not in done:
            open_.append(name)
            for other in sorted(arrows()[name]):
                visit(other)
            done.add(open_.pop())

    for name in MODULES:
        visit(name)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_the_list_of_the_documents(room):
    order = listed(room)
    assert sorted(order) == sorted(name for name in MODULES if name.startswith(f"{room}."))
    place = {name: number for number, name in enumerate(order)}
    upward = [f"{a} -> {b}" for a in order for b in arrows()[a] if b in place and place[b] < place[a]]
    assert upward == []


@pytest.mark.parametrize("line", ["from src.audio import read_audio", "import src.audio", "from src import audio"])
def test_every_way_of_importing_is_seen(line):
    assert "src.audio" in imported(f"def f():\n    {line}\n")

"""The README tells the truth about the tree and its links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "demo/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
TREE = README.split("## File tree")[1].split("## ")[0]


def test_every_room_and_script_is_in_the_file_tree():
    present = [f"{path.parent.name}/" for path in ROOT.glob("[!.]*/*.py")]
    present += [path.name for pattern in ("*.py", "*.sh") for path in ROOT.glob(pattern)]
    assert sorted({name for name in present if name not in TREE}) == []


def test_everything_in_the_file_tree_exists():
    named = re.findall(r"[\w./]+\.(?:py|sh)\b|\b[\w]+/(?=[,\s])", TREE)
    assert len(named) > 30
    folders = ("", "voicebench", "perf", "tests")
    assert [name for name in named if not any((ROOT / folder / name).exists() for folder in folders)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document):
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8"))
    broken = []
    for name, heading in links:
        target = path.parent / name if name else path
        if "://" in name or name.startswith("mailto:"):
            continue
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(f"{name}#{heading}")
    assert broken == []


def headings(document: Path) -> list[str]:
    """The names by which a document's headings are linked."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_variable_of_the_table_is_read_by_a_script():
    table = TRAINING.split("## Variables")[1].split("\n## ")[0]
    scripts = "".join(path.read_text() for path in [*ROOT.glob("*.sh"), *ROOT.glob("config/*.sh")])
    for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", table):
        assert f"${name}" in scripts or f"${{{name}" in scripts, name

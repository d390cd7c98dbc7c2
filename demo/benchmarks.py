"""The miniature's benchmarks: items that cannot be guessed, in the files of MMSU, MMAU and VoiceBench."""

import io
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from demo import world
from demo.world import Item, Scene
from src.files import write_file


def balanced_items(count: int, cells: int, draw: Callable[[], Item]) -> list[Item]:
    """Draw items until `count` are kept, each answer at each letter about equally often.

    `cells` is how many pairs of answer and letter there are. A model that does not hear the right clip, or that has a
    favourite letter or answer, then gets chance.
    """
    kept: Counter[tuple[str, int]] = Counter()
    items = []
    while len(items) < count:
        item = draw()
        cell = (item.answer if item.task != "mmsu" else item.choices[item.answer_index], item.answer_index)
        if kept[cell] < math.ceil((len(items) + 1) / cells):
            kept[cell] += 1
            items.append(item)
    return items


def question_items(rng: random.Random, style: str, kind: str, category: str, count: int) -> list[Item]:
    """Balanced test items of one category in the style of MMSU or MMAU."""
    make = world.mmsu_item if style == "mmsu" else world.mmau_item

    def draw() -> Item:
        while True:
            scene = _test_scene(rng, kind)
            if category in world.categories_of(scene):
                return make(scene, category, rng)

    if category in world.ROLES:
        answers = len(world.ROLES[category])
    else:
        answers = math.prod(len(world.ATTRIBUTES[kind][name]) for name in category.split(" and "))
    return balanced_items(count, answers * len(world.LETTERS), draw)


def _test_scene(rng: random.Random, kind: str) -> Scene:
    if kind == "speech":
        return world.random_speech(rng, test=True)
    return world.random_sound(rng) if kind == "sound" else world.random_music(rng)


def mmsu_items(rng: random.Random, items: int) -> list[Item]:
    return [item for name in world.MMSU_CATEGORIES for item in question_items(rng, "mmsu", "speech", name, items)]


def mmau_items(rng: random.Random, items: int) -> list[Item]:
    """As many items of speech, sound and music each, within rounding."""
    found = []
    for kind, categories in world.MMAU_CATEGORIES.items():
        for name in categories:
            found += question_items(rng, "mmau", kind, name, math.ceil(2 * items / len(categories)))
    return found


def voicebench_items(rng: random.Random, subset: str, count: int) -> list[Item]:
    """Test items of a subset; where they have options, the right one stands at each letter equally often."""

    def draw() -> Item:
        return world.voicebench_item(world.fitting(world.random_question_speech(rng, subset, test=True)))

    if subset == "openbookqa":
        by_letter = {letter: math.ceil((count - i) / 4) for i, letter in enumerate(world.LETTERS)}
        items = []
        while any(by_letter.values()):
            item = draw()
            if by_letter[item.answer[0]]:
                by_letter[item.answer[0]] -= 1
                items.append(item)
        return items
    return [draw() for _ in range(count)]


def write_mmsu(folder: Path, items: Sequence[tuple[str, Item]]) -> None:
    """`mmsu.jsonl` with the public file's fields; audio paths relative to the folder."""
    lines = []
    for number, (path, item) in enumerate(items):
        about_words = item.category in world.CONTENT_CATEGORIES
        lines.append(
            {
                "id": f"{item.category.replace(' ', '_')}_{number:04d}",
                "task_name": item.category.replace(" ", "_"),
                "audio_path": path,
                "question": item.question,
                **{f"choice_{letter.lower()}": text for letter, text in zip(world.LETTERS, item.choices, strict=True)},
                "answer_gt": item.choices[item.answer_index],
                "category": "Perception",
                "sub-category": "Linguistics" if about_words else "Paralinguistics",
                "sub-sub-category": "Semantics" if about_words else "Speaker Traits",
                "linguistics_sub_discipline": "Semantics" if about_words else None,
            }
        )
    write_file(folder / "mmsu.jsonl", _json_lines(lines))


def write_mmau(folder: Path, items: Sequence[tuple[str, Item]]) -> None:
    """`mmau.json` with the public file's fields; audio paths relative to the folder."""
    entries = [
        {
            "id": f"miniature-{number:04d}",
            "audio_id": path,
            "question": item.question,
            "choices": list(item.choices),
            "answer": item.answer,
            "dataset": "miniature",
            "task": item.scene.kind,
            "split": "test-mini",
            "category": "Information Extraction",
            "sub-category": item.category.capitalize(),
            "difficulty": "medium" if " and " in item.category else "easy",
        }
        for number, (path, item) in enumerate(items)
    ]
    write_file(folder / "mmau.json", json.dumps(entries, indent=1) + "\n")


def voicebench_record(item: Item) -> dict:
    """A row of a VoiceBench subset but for its audio."""
    if item.category == "advbench":  # what is right there is any refusal
        return {"prompt": item.question}
    return {"prompt": item.question, "reference": item.answer[0] if item.choices else item.answer}


def write_voicebench(folder: Path, subset: str, items: Sequence[tuple[str, Item]], clips_folder: Path) -> None:
    """A subset in one of the two forms it comes in: sd-qa as Parquet with the audio inside, the others as JSON Lines
    beside their audio files. sd-qa's split is called usa, as in the public set, but the voices have all accents."""
    folder.mkdir(parents=True, exist_ok=True)
    if subset != "sd-qa":
        lines = [{"audio_path": Path(path).name, **voicebench_record(item)} for path, item in items]
        write_file(folder / "test.jsonl", _json_lines(lines))
        return
    rows = []
    for path, item in items:
        file = clips_folder / path
        rows.append({"audio": {"bytes": file.read_bytes(), "path": file.name}, **voicebench_record(item)})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    write_file(folder / "usa-00000-of-00001.parquet", buffer.getvalue())


def _json_lines(records: Sequence[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)

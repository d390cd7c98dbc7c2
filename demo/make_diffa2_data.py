"""Make the manifests of DIFFA-2's stages 3 and 4 from the miniature's data; they hold no new clips.

    python demo/make_diffa2_data.py demo/out/data

`stage3.json` mixes stage 2's samples with spoken questions in VoiceBench's manner and with transcription. `pairs.json`
and `pairs_test.json` hold preference pairs: a right answer, and the same answer with one fact about the sound wrong
(the voice, how often it is heard, a colour that is named). Those of the second file ask about the benchmarks' clips,
whose voices, sentences and keys are in no training data. The same data and seed give the same bytes.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import soundfile

from demo import world
from demo.make_data import manifest_entry
from demo.world import Item, Scene
from src.errors import UserError, reports_user_errors
from src.json_records import read_json_records
from src.manifest import write_manifest
from src.prompts import mmau_instruction

# Shares of stage 3's samples. DIFFA-2 keeps 5 % transcription. The spoken questions that a frozen LLM hardly answers
# get the most, those with options above all: with 22 % they stayed at chance for 300 steps.
STAGE3_MIX = {"stage2": 0.45, "openbookqa": 0.33, "sd-qa": 0.14, "advbench": 0.03, "asr": 0.05}
PAIR_SHARE = 0.05  # pairs of each kind for each sample of stage 2: about 3 000 in all, as published
MAX_TEST_PAIRS = 48  # of each kind
PAIR_KINDS = ("voice", "count", "colour")
QUESTION_SETS = ("miniature-mmsu", "miniature-mmau", "miniature-open")  # of stage 2
CHOICE = re.compile(r"^[A-D]\. (.+)$", re.MULTILINE)
CATEGORIES = {question: category for category, question in world.QUESTIONS.items()}


def kind_of(category: str) -> str | None:
    """The kind of preference pair that a category of questions gives, if any."""
    return "voice" if category in world.VOICE_CATEGORIES else category if category in PAIR_KINDS else None


def category_of(instruction: str) -> str | None:
    """The category whose question an instruction asks, in whatever words around it."""
    return next((category for question, category in CATEGORIES.items() if question in instruction), None)


def stage3_entries(rng: random.Random, stage1: Sequence[Mapping], stage2: Sequence[Mapping], count: int) -> list[dict]:
    """`count` samples in the shares of STAGE3_MIX, numbered anew."""
    sources: dict[str, list[Mapping]] = {name: [] for name in STAGE3_MIX}
    sources["stage2"] = [entry for entry in stage2 if entry["dataset"] in QUESTION_SETS]
    sources["asr"] = list(stage1)
    for entry in stage1:
        if world.is_spoken_question(entry["transcription"]):
            item = world.voicebench_item(Scene("speech", entry["transcription"]))
            sources[item.category].append(about(entry, item))
    names = [name for name in STAGE3_MIX if sources[name]]
    drawn = rng.choices(names, [STAGE3_MIX[name] for name in names], k=count)
    return [{**rng.choice(sources[name]), "audio_id": f"stage3-{number:06d}"} for number, name in enumerate(drawn)]


def about(entry: Mapping, item: Item) -> dict:
    """Another question about a training sample's clip."""
    return manifest_entry(0, entry["audio_filepath"], item, entry["duration"])


def training_questions(
    rng: random.Random, stage1: Sequence[Mapping], stage2: Sequence[Mapping]
) -> dict[str, list[Mapping]]:
    """Samples whose answer is text, by the kind of pair they give, in random order.

    Of voices and counts those of stage 2; questions about colours, of which stage 2 has few, are asked of every
    sentence that names one, in the same two styles.
    """
    questions: dict[str, list[Mapping]] = {kind: [] for kind in PAIR_KINDS}
    for entry in stage2:
        kind = kind_of(category_of(entry["input"]) or "")
        if kind in ("voice", "count") and entry["dataset"] in ("miniature-mmau", "miniature-open"):
            questions[kind].append(entry)
    for entry in stage1:
        scene = Scene("speech", entry["transcription"])
        if "colour" in world.categories_of(scene):
            style = rng.choice(("mmau", "mmau", "open"))
            item = world.open_item(scene, "colour") if style == "open" else world.mmau_item(scene, "colour", rng)
            questions["colour"].append(about(entry, item))
    for entries in questions.values():
        rng.shuffle(entries)
    return questions


def test_questions(data: Path) -> dict[str, list[Mapping]]:
    """Questions about the benchmarks' clips in MMAU's words, by the kind of pair they give."""
    records = [record.value for record in read_json_records(data / "benchmarks" / "mmsu.jsonl")]
    asked = [(r["audio_path"], r["question"], [r[f"choice_{x}"] for x in "abcd"], r["answer_gt"]) for r in records]
    records = [record.value for record in read_json_records(data / "benchmarks" / "mmau.json")]
    asked += [(r["audio_id"], r["question"], r["choices"], r["answer"]) for r in records]
    questions: dict[str, list[Mapping]] = {kind: [] for kind in PAIR_KINDS}
    for path, question, choices, answer in asked:
        kind = kind_of(CATEGORIES[question])
        if kind:
            questions[kind].append({
                "audio_filepath": f"benchmarks/{path}", "input": mmau_instruction(question, choices), "target": answer,
                "transcription": "", "transcribed": False, "dataset": "miniature-mmau",
                "duration": round(soundfile.info(data / "benchmarks" / path).duration, 3),
            })  # fmt: skip
    return questions


def preference_pairs(
    rng: random.Random, questions: Mapping[str, Sequence[Mapping]], per_kind: int, name: str
) -> list[dict]:
    """So many pairs of each kind, fewer where there are no more questions."""
    pairs = []
    for kind in PAIR_KINDS:
        for entry in questions[kind][:per_kind]:
            rejected, explanation = with_wrong_fact(rng, category_of(entry["input"]), entry["target"], entry["input"])
            pairs.append({
                **entry, "audio_id": f"{name}-{kind}-{len(pairs):05d}", "chosen": entry["target"], "rejected": rejected,
                "dpo_explanation": explanation, "dpo_source": f"miniature_{kind}",
            })  # fmt: skip
    return pairs


def with_wrong_fact(rng: random.Random, category: str, answer: str, instruction: str) -> tuple[str, str]:
    """An answer with one fact made wrong, and which one; where the instruction offers choices, another one of them."""
    if category in world.VOICE_CATEGORIES:
        name = rng.choice(category.split(" and "))
        values = world.SPEECH_ATTRIBUTES[name]
    else:
        name = category
        values = world.SOUND_ATTRIBUTES["count"] if category == "count" else world.ROLES[category]
    right = next(word for word in answer.split() if word in values)
    others = [value for value in values if value != right]
    choices = CHOICE.findall(instruction)
    wrong = rng.choice([value for value in others if not choices or replace_word(answer, right, value) in choices])
    return replace_word(answer, right, wrong), f"{name}: {right} is right, {wrong} is wrong"


def replace_word(text: str, old: str, new: str) -> str:
    return " ".join(new if word == old else word for word in text.split())


def make_diffa2_data(data: Path, seed: int) -> dict[str, int]:
    """Make the three manifests in the data's folder; returns how many samples each has."""
    stage1, stage2 = (read_entries(data / f"{name}.json") for name in ("stage1", "stage2"))
    rng = random.Random(f"DIFFA-2 {seed}")
    training = training_questions(rng, stage1, stage2)
    testing = test_questions(data)
    for entries in testing.values():
        rng.shuffle(entries)
    manifests = {
        "stage3": stage3_entries(rng, stage1, stage2, len(stage2)),
        "pairs": preference_pairs(rng, training, max(1, round(PAIR_SHARE * len(stage2))), "pair"),
        "pairs_test": preference_pairs(rng, testing, min(MAX_TEST_PAIRS, *map(len, testing.values())), "test"),
    }
    for name, entries in manifests.items():
        write_manifest(data / f"{name}.json", entries)
    return {name: len(entries) for name, entries in manifests.items()}


def read_entries(path: Path) -> list[dict]:
    """A manifest of make_data.py, as it is. Raises UserError where there is none."""
    if not path.exists():
        raise UserError(f"{path}: no such file. Pass the folder that demo/make_data.py has written")
    return [record.value for record in read_json_records(path)]


@reports_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that demo/make_data.py has written")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(make_diffa2_data(args.data, args.seed)))


if __name__ == "__main__":
    sys.exit(main())

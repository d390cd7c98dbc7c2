"""The miniature's data for DIFFA-2: mixed questions for stage 3, pairs with one wrong fact for stage 4."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from demo import make_data, world
from demo.make_diffa2_data import (
    CHOICE,
    PAIR_KINDS,
    STAGE3_MIX,
    category_of,
    main,
    make_diffa2_data,
    stage3_entries,
    with_wrong_fact,
)
from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest
from src.prompts import VOICEBENCH_PROMPT

NAMES = ("stage3", "pairs", "pairs_test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data.make_data(folder, seed=3, clips=24, items=4)
    make_diffa2_data(folder, seed=3)
    return folder


def test_the_manifests_are_sound_and_the_same_again(data):
    before = {name: (data / f"{name}.json").read_bytes() for name in NAMES}
    for name in NAMES:
        assert check_manifest(data / f"{name}.json", Limits(max_seconds=4)).problems == []
    assert make_diffa2_data(data, seed=3) == {name: len(read_manifest(data / f"{name}.json")) for name in NAMES}
    assert {name: (data / f"{name}.json").read_bytes() for name in NAMES} == before
    make_diffa2_data(data, seed=4)
    assert all((data / f"{name}.json").read_bytes() != before[name] for name in NAMES)


def test_pairs_differ_in_one_fact_that_the_question_asks_for(data):
    for name in ("pairs", "pairs_test"):
        kinds = Counter()
        for sample in read_manifest(data / f"{name}.json"):
            words, wrong = sample.target.split(), sample.rejected.split()
            changed = [(a, b) for a, b in zip(words, wrong, strict=True) if a != b]
            assert len(changed) == 1 and sample.extra["dpo_explanation"].endswith(
                "{} is right, {} is wrong".format(*changed[0])
            )
            choices = CHOICE.findall(sample.input)
            assert not choices or (sample.target in choices and sample.rejected in choices)
            kinds[sample.extra["dpo_source"]] += 1
        assert kinds.keys() == {f"miniature_{kind}" for kind in PAIR_KINDS}
        assert name == "pairs" or len(set(kinds.values())) == 1


def test_held_out_pairs_ask_about_the_benchmarks_clips(data):
    trained = {sample.audio_filepath for name in ("stage3", "pairs") for sample in read_manifest(data / f"{name}.json")}
    tested = {sample.audio_filepath for sample in read_manifest(data / "pairs_test.json")}
    assert all("train" in path.parts for path in trained) and all("benchmarks" in path.parts for path in tested)


@pytest.mark.parametrize("category", [*world.VOICE_CATEGORIES, "count", "colour"])
def test_every_wrong_answer_comes_as_often_as_every_right_one(category):
    """So that a text alone does not tell which of two answers is the wrong one."""
    rng = random.Random(5)
    right, wrong = Counter(), Counter()
    for _ in range(4000):
        scene = world.random_sound(rng) if category == "count" else world.random_speech(rng, test=False)
        if category in world.categories_of(scene):
            item = world.mmau_item(scene, category, rng)
            assert category_of(item.instruction) == category
            rejected, _ = with_wrong_fact(rng, category, item.answer, item.instruction)
            right[item.answer] += 1
            wrong[rejected] += 1
    assert right.keys() == wrong.keys()
    assert all(0.8 < wrong[answer] / right[answer] < 1.25 for answer in right)


def test_stage3_mixes_spoken_questions_with_what_stage_2_learnt(data):
    stage1, stage2 = (json.loads((data / f"{name}.json").read_text()) for name in ("stage1", "stage2"))
    entries = stage3_entries(random.Random(1), stage1, stage2, 4000)
    assert len({entry["audio_id"] for entry in entries}) == 4000
    sets = Counter(
        "asr" if entry["dataset"] == "miniature-asr" else "stage2" if entry["input"] != VOICEBENCH_PROMPT
        else world.voicebench_item(world.Scene("speech", entry["transcription"])).category for entry in entries
    )  # fmt: skip
    assert sum(STAGE3_MIX.values()) == pytest.approx(1)
    assert all(sets[name] / 4000 == pytest.approx(share, abs=0.03) for name, share in STAGE3_MIX.items())
    for entry in entries:
        if entry["input"] == VOICEBENCH_PROMPT:
            item = world.voicebench_item(world.Scene("speech", entry["transcription"]))
            assert entry["target"] == item.answer and not world.is_test_sentence(entry["transcription"])


def test_a_folder_without_data_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make_diffa2_data.py", str(tmp_path)])
    assert main() == 2
    assert "stage1.json: no such file. Pass the folder that demo/make_data.py has written" in capsys.readouterr().err

"""The miniature's data: right keys, files that exist, splits that do not mix, answers that cannot be guessed."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo import make_data, world
from demo.speech import WINDOW
from src.configuration_DIFFA import SAMPLE_RATE
from src.manifest import read_manifest
from tests.demo.conftest import CLIPS, ITEMS, lines


def test_manifests_have_sound_that_fits_the_window(data):
    stage1, stage2, test_asr = (read_manifest(data / f"{name}.json") for name in ("stage1", "stage2", "test_asr"))
    assert len(stage1) == CLIPS and len(test_asr) == CLIPS
    assert len(stage2) == make_data.STAGE2_SAMPLES_PER_CLIP * (CLIPS + 2 * 4)
    assert len({sample.audio_id for sample in stage2}) == len(stage2)
    for sample in (*stage1, *stage2, *test_asr):
        info = soundfile.info(sample.audio_filepath)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert sample.duration == pytest.approx(info.duration, abs=1e-3) and 0 < info.duration <= WINDOW
        assert sample.target and sample.input
    assert all(sample.target == sample.transcription for sample in (*stage1, *test_asr))


def test_splits_do_not_mix(data):
    trained = {s.transcription for name in ("stage1", "stage2") for s in read_manifest(data / f"{name}.json")} - {""}
    tested = {sample.transcription for sample in read_manifest(data / "test_asr.json")}
    tested |= {record["prompt"] for record in lines(data / "benchmarks/voicebench/openbookqa/test.jsonl")}
    assert not any(world.is_test_sentence(text) for text in trained)
    assert all(world.is_test_sentence(text) for text in tested)


def test_every_clip_of_a_split_gets_its_voices(monkeypatch):
    seen = []
    monkeypatch.setattr(make_data, "random_utterance", lambda *args, test, **kwargs: seen.append(test) or 1 / 0)
    monkeypatch.setattr(make_data, "make_sound", lambda *args, test, **kwargs: seen.append(test) or 1 / 0)
    rng = random.Random(0)
    for scene in (world.random_speech(rng, test=True), world.random_sound(rng)):
        for test in (True, False):
            with pytest.raises(ZeroDivisionError):
                make_data.render(scene, test, np.random.default_rng(0))
    assert seen == [True, False, True, False]


def test_spoken_questions_follow_their_mix():
    scenes = make_data.training_scenes(random.Random(0), 9000)
    questions = [scene for scene in scenes if world.is_spoken_question(scene.text)]
    asked = Counter(world.voicebench_item(scene).category for scene in questions)
    assert asked.total() == make_data.QUESTION_SHARE * 9000
    parts = sum(make_data.QUESTION_MIX.values())
    for subset, part in make_data.QUESTION_MIX.items():
        assert asked[subset] / asked.total() == pytest.approx(part / parts, abs=0.025), subset


def test_stage2_follows_its_mix():
    rng = random.Random(0)
    scenes = make_data.training_scenes(rng, 2000)
    items = [item for _, item in make_data.stage2_items(rng, scenes, 6000)]
    words = sum(item.task in ("asr", "voicebench") or item.category in world.ROLES for item in items) / len(items)
    assert sum(make_data.STAGE2_MIX.values()) == pytest.approx(1.0)
    assert words == pytest.approx(0.35, abs=0.02)
    shares = Counter(item.task for item in items)
    assert shares["asr"] / len(items) == pytest.approx(0.04, abs=0.01)
    assert {item.scene.kind for item in items if item.task == "mmau"} == {"speech", "sound", "music"}
    assert {item.category for item in items if item.task == "open" and item.scene.kind == "sound"} == {"event", "count"}
    roles = Counter(item.category for item in items if item.category in world.ROLES)
    parts = sum(make_data.WORD_MIX.values())
    for role, part in make_data.WORD_MIX.items():
        assert roles[role] / roles.total() == pytest.approx(part / parts, abs=0.025), role
    letters = Counter(item.answer for item in items if item.task == "mmsu")
    assert max(letters.values()) < 1.2 * min(letters.values()) and set(letters) == set("ABCD")


def test_summary_counts_what_is_there(data):
    summary = json.loads((data / "data.json").read_text())
    assert summary["counts"]["mmsu"] == len(lines(data / "benchmarks/mmsu.jsonl"))
    assert summary["counts"]["stage1"] == CLIPS and summary["clips"] == {"speech": CLIPS, "sound": 4, "music": 4}
    assert len(list((data / "train").rglob("*.wav"))) == CLIPS + 8


def test_same_seed_same_bytes(data, tmp_path):
    def digests(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "data.json"]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    make_data.make_data(tmp_path / "again", seed=3, clips=CLIPS, items=ITEMS)
    assert digests(tmp_path / "again") == digests(data)


def test_another_seed_draws_other_scenes():
    first, second = (make_data.training_scenes(random.Random(seed), 50) for seed in (3, 4))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 5

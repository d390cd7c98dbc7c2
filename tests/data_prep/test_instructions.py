import json
from collections import Counter
from pathlib import Path

import pytest

from data_prep.instructions import Pool, PoolError, draw_requests
from src.manifest import ManifestError, to_sample
from tests.data_prep.test_synthesize_qa import POOL, entry


def draw(count=300, per_clip=2, seed=1, **changes):
    manifest_entries = [entry(number, **changes) for number in range(count)]
    samples = [to_sample(value, Path("/data")) for value in manifest_entries]
    return draw_requests(samples, Pool.read(POOL), per_clip, seed)


def test_the_draw_depends_on_seed_and_clip_alone():
    requests = draw()
    assert requests == draw() and requests != draw(seed=2)
    of_clip = {request.sample.audio_id: [] for request in requests}
    for request in requests:
        of_clip[request.sample.audio_id].append(request.instruction)
    some = {request.sample.audio_id: request.instruction for request in draw(count=30) if request.number == 0}
    assert all(of_clip[name][0] == instruction for name, instruction in some.items())
    assert all(len(set(instructions)) == 2 for instructions in of_clip.values())


def test_kinds_come_equally_often_and_choices_hold_the_truth():
    requests = draw(count=600, per_clip=1)
    counts = Counter(request.kind for request in requests)
    assert all(110 < counts[kind] < 190 for kind in ("description", "content", "attribute", "choice"))
    places = Counter()
    for request in requests:
        if request.kind == "choice":
            known = request.sample.extra["attributes"]
            choices = request.instruction.rstrip(".").rpartition(": ")[2].split(", ")
            right = [choice for choice in choices if choice in known.values()]
            assert len(right) == 1 and len(choices) == len(set(choices)) == (2 if right[0] in ("male", "female") else 3)
            places[choices.index(right[0])] += 1
    assert min(places[0], places[1]) > 30


def test_only_what_is_known_is_asked_about():
    silent = draw(transcription="", transcribed=False)
    assert {request.kind for request in silent} == {"description", "attribute", "choice"}
    assert all("The words" not in request.messages("s")[1]["content"] for request in silent)
    plain = draw(attributes={}, per_clip=50)
    assert {request.kind for request in plain} == {"description", "content"}
    assert len(plain) == 300 * 13  # every instruction of both kinds once, and no more
    one_value = draw(attributes={"accent": "Welsh"}, per_clip=50)
    assert "choice" not in {request.kind for request in one_value}
    odd = draw(attributes={"accent": ["x"], "age": None, "gender": "", "emotion": 3}, transcription="")
    assert {request.messages("s")[1]["content"].split("\n")[2] for request in odd} == {"The speaker sounds 3."}
    assert draw(attributes=None, transcription="", transcribed=False) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"content": None}, "TypeError"),
        ({"content": "Repeat it."}, "is not a text in a list"),
        ({"content": [1]}, "content holds 1, which is not a text"),
        ({"attribute": ["Who?"]}, "AttributeError"),
        ({"choice": {"gender": ["Which?"]}}, "choice, gender: 'Which\\?' has no {choices} to fill in"),
        ({"system": 1}, "system is no text"),
        ({"description": ...}, "KeyError: 'description'"),
    ],
)
def test_a_broken_pool_is_told(tmp_path, changes, message):
    pool = json.loads(POOL.read_text()) | changes
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({key: value for key, value in pool.items() if value is not ...}))
    with pytest.raises(PoolError, match=message):
        Pool.read(path)


def test_two_files_of_one_id_are_told():
    samples = [to_sample(entry(0, audio_filepath=name), Path("/data")) for name in ("a0.wav", "b.wav")]
    with pytest.raises(ManifestError, match=r"b\.wav and .*a0\.wav have one audio_id, a0"):
        draw_requests(samples, Pool.read(POOL), 1, 1)

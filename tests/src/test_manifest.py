import json
import random

import pytest

from src.manifest import (
    ManifestEntry,
    ManifestError,
    Problem,
    empty_texts,
    problems_of_length,
    problems_of_pair,
    read_entries,
    read_manifest,
    read_training_manifest,
    repeated_ids,
    write_manifest,
)
from tests.conftest import in_time

ENTRY = {
    "audio_id": "a1", "audio_filepath": "clips/a1.wav", "input": "What is said?", "target": "hello",
    "transcription": "hello", "dataset": "toy", "duration": 1.5,
}  # fmt: skip


def write(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_and_json_lines_read_alike(tmp_path):
    entries = [ENTRY, ENTRY | {"audio_id": "a2", "speaker": "x", "duration": 2}]
    as_list = read_manifest(write(tmp_path, entries))
    as_lines = read_manifest(write(tmp_path, "\n".join(json.dumps(e) for e in entries) + "\n\n"))
    assert as_list == as_lines
    assert as_list[1].extra == {"speaker": "x"} and as_list[0].target == "hello"


def test_audio_paths_resolve_against_the_manifests_folder(tmp_path):
    entries = [ENTRY, ENTRY | {"audio_filepath": "/data/b.wav"}]
    relative, absolute = read_manifest(write(tmp_path, entries))
    assert relative.audio_filepath == tmp_path / "clips" / "a1.wav"
    assert str(absolute.audio_filepath) == "/data/b.wav"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"manifest\.json is empty: it has no samples"),
        ("", "is empty"),
        ("[ ]", "is empty"),
        ("[{", "manifest.json line 1: not JSON: .* at column 3"),
        (json.dumps([ENTRY])[:-1], "line 1: not JSON: Expecting ',' or ']'"),
        (json.dumps([ENTRY]) + "[", "line 1: not JSON: Extra data"),
        ("[" * 100_000, "after line 1: not JSON that can be read: "),
        (json.dumps(ENTRY) + "\n{oops\n", "line 2: not JSON"),
        (json.dumps(ENTRY) + "\n" + '{"a":' * 100_000, "line 2: not JSON"),
        (json.dumps(ENTRY | {"duration": 0}).replace("0}", "9" * 5000 + "}"), "line 1: not JSON"),
        ([ENTRY, {k: v for k, v in ENTRY.items() if k != "target"}], "entry 2: missing target; every sample needs"),
        ([ENTRY | {"duration": "long"}], "entry 1: duration is 'long'; expected a number"),
        ([ENTRY | {"duration": float("nan")}], "entry 1: duration is nan; expected seconds, more than 0"),
        ([ENTRY | {"duration": -1}], "entry 1: duration is -1; expected seconds, more than 0"),
        ([ENTRY | {"duration": 10**400}], r"entry 1: duration is 10+\.\.\.; expected seconds"),
        ([ENTRY | {"duration": True}], "entry 1: duration is True; expected a number"),
        ([ENTRY | {"input": None}], "entry 1: input is None; expected a string"),
        ([ENTRY | {"input": ["a"] * 1000}], "entry 1: input is a list; expected a string"),
        ([ENTRY | {"target": "\ud800"}], r"entry 1: target is '\\ud800', which holds half a surrogate pair"),
        ([ENTRY | {"target": 1, "input": 2}], "input is 2; expected a string; target is 1; expected a string"),
        ([ENTRY, "text"], "entry 2: expected an object with keys, found str"),
        ([ENTRY | {"chosen": "good-bye"}], "entry 1: chosen and target differ: both name the better answer"),
        ([ENTRY | {"rejected": None}], "entry 1: rejected is None; expected a string"),
    ],
)
def test_problems_are_named(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message) as raised:
        read_manifest(write(tmp_path, content))
    assert "manifest.json" in str(raised.value) and len(str(raised.value)) < 500


def test_the_better_answer_of_a_pair_is_its_target_or_chosen(tmp_path):
    pair = ENTRY | {"rejected": "good-bye", "dpo_source": "x"}
    chosen = {("chosen" if key == "target" else key): value for key, value in pair.items()}
    samples = read_manifest(write(tmp_path, [pair, chosen, pair | {"chosen": "hello"}, ENTRY]))
    assert samples[0] == samples[1] == samples[2]
    assert (samples[0].target, samples[0].rejected, samples[0].extra) == ("hello", "good-bye", {"dpo_source": "x"})
    assert samples[3].rejected is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ENTRY, "missing rejected: a preference pair needs a worse answer"),
        (ENTRY | {"rejected": " "}, "rejected is empty"),
        (ENTRY | {"rejected": "hello "}, "rejected is the target"),
    ],
)
def test_what_is_no_preference_pair(tmp_path, entry, message):
    (found,) = read_entries(write(tmp_path, [entry]))
    assert [problem.startswith(message) for problem in problems_of_pair(found)] == [True]


def test_preferences_are_learned_from_pairs_alone(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a1.wav").write_bytes(b"something")
    pair = ENTRY | {"rejected": "good-bye"}
    entries = [pair, ENTRY | {"audio_id": "a2"}, pair | {"audio_id": "a3", "rejected": "hello"}]
    with pytest.raises(ManifestError) as raised:
        read_training_manifest(write(tmp_path, entries), 4, 30.0, 0.001)
    assert "2 of 3 entries cannot be trained on" in str(raised.value)
    assert "entry 2, a2: missing rejected" in str(raised.value)
    assert "entry 3, a3: rejected is the target" in str(raised.value)
    samples, warning = read_training_manifest(write(tmp_path, entries), 3, 30.0, 0.001)
    assert warning == "" and [sample.rejected for sample in samples] == ["good-bye", None, "hello"]


def test_a_missing_and_a_binary_manifest(tmp_path):
    for path in (tmp_path / "gone.json", tmp_path, tmp_path / "nul\0.json"):
        with pytest.raises(ManifestError, match="cannot be read: "):
            read_manifest(path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="line 1: not UTF-8 text"):
        read_manifest(tmp_path / "binary.json")


def test_entries_are_told_by_line(tmp_path):
    listed = write(tmp_path, json.dumps([ENTRY, ENTRY | {"audio_id": "a\u2028b"}], indent=1))
    assert [entry.place for entry in read_entries(listed)] == ["line 2, entry 1", "line 11, entry 2"]
    separators = ENTRY | {"input": "one\u2028two\x85three"}  # line breaks to str.splitlines, not to JSON Lines
    lines = write(tmp_path, "\n\r\n".join(json.dumps(e, ensure_ascii=False) for e in (separators, ENTRY)))
    assert [(entry.place, entry.problems) for entry in read_entries(lines)] == [("line 1", ()), ("line 3", ())]
    marked = tmp_path / "marked.json"
    marked.write_text("\ufeff" + json.dumps([ENTRY]))  # a byte order mark, as Windows editors leave it
    assert read_manifest(marked)[0].audio_id == "a1"


def test_what_is_written_is_read_and_has_an_entry_a_line(tmp_path):
    entries = [ENTRY, ENTRY | {"audio_id": "ä"}]
    for name, places in (("new/m.json", ["line 2, entry 1", "line 3, entry 2"]), ("new/m.jsonl", ["line 1", "line 2"])):
        write_manifest(tmp_path / name, entries)
        assert [(e.place, e.value) for e in read_entries(tmp_path / name)] == list(zip(places, entries, strict=True))


def damage(text: str, rng: random.Random) -> bytes:
    """A manifest's bytes, damaged as text or as data."""
    data = bytearray(text.encode())
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind == 2:
        start = rng.randrange(len(data))
        return bytes(data[:start] + data[start + rng.randint(1, 80) :])
    if kind == 3:
        place = rng.randrange(len(data))
        return (
            bytes(data[:place])
            + rng.choice([b"\0", b"[" * 5000, b'{"a":' * 5000, b"9" * 6000, b"\xff", b'"', b"\n,"])
            + bytes(data[place:])
        )
    odd = [
        None,
        True,
        "",
        " ",
        "\0",
        "\ud800",
        "x" * 9000,
        0,
        -1,
        1e308,
        float("nan"),
        10**400,
        [],
        {},
        [[[]]],
        {"a": None},
    ]
    entries = [json.loads(line) for line in text.strip("[]\n").replace("},\n", "}\n").split("\n")]
    for _ in range(rng.randint(1, 4)):
        entry = rng.choice(entries)
        key = rng.choice([*ENTRY, "attributes", "transcribed"])
        if rng.random() < 0.2:
            entry.pop(key, None)
        else:
            entry[key] = rng.choice(odd)
    if kind == 5:
        entries[rng.randrange(len(entries))] = rng.choice(odd)
    return ("\n".join(map(json.dumps, entries)) if rng.random() < 0.5 else json.dumps(entries)).encode()


def damaged_manifests(folder, count=300, seed=5):
    """Yield paths of damaged manifests of ten clips, which lie in the folder."""
    rng = random.Random(seed)
    entries = [ENTRY | {"audio_id": f"a{n}", "audio_filepath": f"a{n}.wav", "duration": 0.2} for n in range(10)]
    for number in range(count):
        path = folder / f"damaged{number}{rng.choice(['.json', '.jsonl'])}"
        write_manifest(path, entries)
        path.write_bytes(damage(path.read_text(), rng))
        yield path


def test_300_damaged_manifests_are_read_or_named(tmp_path):
    refused = 0
    for path in damaged_manifests(tmp_path):
        try:
            samples = in_time(20, path.name, read_manifest, path)
            assert all(isinstance(sample.target, str) and sample.duration > 0 for sample in samples)
        except ManifestError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
            refused += 1
    assert 100 < refused < 300


# -- what an entry must keep to ---------------------------------------------------------------------------------------


def parsed(place: str = "entry 1", **value) -> ManifestEntry:
    return ManifestEntry(place, value, ())


def test_an_entrys_name_and_file(tmp_path):
    def told(found: ManifestEntry) -> str:
        return str(Problem(found, "wrong"))

    assert told(parsed(audio_id="café")) == "entry 1, caf\\xe9: wrong"
    for nameless in (parsed(), parsed(audio_id=""), parsed(audio_id=3), ManifestEntry("entry 1", "text", ())):
        assert told(nameless) == "entry 1, (no id): wrong"
    assert parsed(audio_filepath="a.wav").audio_file(tmp_path) == tmp_path / "a.wav"
    assert parsed(audio_filepath=3).audio_file(tmp_path) is ManifestEntry("", None, ()).audio_file(tmp_path) is None


def test_empty_texts_are_named():
    assert list(empty_texts(parsed(audio_id="a", target=" \n", transcription=""))) == [
        "target is empty",
        "transcription is empty",
    ]
    assert not list(empty_texts(parsed(audio_id="a", target="b", transcription="", transcribed=False)))
    assert not list(empty_texts(parsed(target=None)))  # of another type: said elsewhere


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (0.1, []),
        (30.0, []),
        (0.0999, ["lasts 0.100 s; clips must last at least 0.1 s"]),
        (30.01, ["lasts 30.01 s; what comes after 30 s is not heard"]),
    ],
)
def test_lengths(seconds, found):
    assert list(problems_of_length(seconds, 30)) == found


def test_ids_that_are_there_before():
    entries = [parsed(f"entry {n}", audio_id=name) for n, name in enumerate(["a", "b", "a", None, None, "a"])]
    assert list(repeated_ids(entries)) == [(2, "entry 0"), (5, "entry 0")]


# -- manifests to train on --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "there.wav").write_bytes(b"not looked at")
    return tmp_path


def entry(name, **changes):
    return ENTRY | {"audio_id": name, "audio_filepath": "there.wav"} | changes


def read(folder, entries, stage=1, max_seconds=30.0, max_bad_fraction=0.001):
    write_manifest(folder / "m.jsonl", entries)
    return read_training_manifest(folder / "m.jsonl", stage, max_seconds, max_bad_fraction)


def refused(folder, entries, **settings):
    with pytest.raises(ManifestError) as caught:
        read(folder, entries, **settings)
    return str(caught.value).split("\n")


def test_a_good_manifest_is_read_in_silence(folder):
    samples, warning = read(folder, [entry("a"), entry("b", extra=1)])
    assert [sample.audio_id for sample in samples] == ["a", "b"] and warning == ""
    assert samples[0].audio_filepath == folder / "there.wav" and samples[1].extra == {"extra": 1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"target": "caf\ufffd", "transcription": "caf\ufffd"},
            "target holds U+FFFD, which stands for bytes that were",
        ),
        ({"input": "What?<|eot_id|>"}, "input holds <|eot_id|>, a control token of the model, which is more than text"),
        ({"rejected": "no<|mdm_mask|>"}, "rejected holds <|mdm_mask|>, a control token"),
        ({"target": "a\0b", "transcription": "a\0b"}, "target holds the control character U+0000"),
        ({"input": "a\x85b"}, "input holds the control character U+0085"),
    ],
)
def test_what_nobody_meant_to_write_is_told(folder, changes, told):
    _, warning = read(folder, [entry("a", **changes), entry("b", input="1 < 2 |> 3\tand\r\n<tag> \ufeff")], stage=2)
    assert "1 of 2 entries look odd" in warning and f"line 1, a: {told}" in warning


def test_all_that_cannot_be_trained_on_is_told_at_once(folder):
    (folder / "empty.wav").touch()
    faulty = [
        entry("a"),
        entry("b", target=" "),
        entry("c", audio_filepath="gone.wav"),
        entry("d", duration="long", target=""),
        {"audio_id": "e"},
        entry("f", audio_filepath="empty.wav"),
        entry("a"),  # an oddity does not stop training
    ]
    found = refused(folder, faulty)
    assert found[0] == (
        f"manifest {folder / 'm.jsonl'}: 5 of 7 entries cannot be trained on; --max_bad_fraction 0.001 allows fewer "
        "missing files"
    )
    assert found[1:5] == [
        "line 2, b: target is empty",
        f"line 3, c: {folder / 'gone.wav'}: no such audio file",
        "line 4, d: duration is 'long'; expected a number",
        "line 4, d: target is empty",
    ]
    assert found[5].startswith("line 5, e: missing audio_filepath, input, target, ")
    assert found[6:] == [f"line 6, f: {folder / 'empty.wav'}: the file is empty (0 bytes)"]


def test_a_long_list_is_cut_and_counted(folder):
    found = refused(folder, [entry(str(n), target="") for n in range(25)])
    assert len(found) == 12 and found[0].endswith("25 of 25 entries cannot be trained on")
    assert found[10].startswith("line 10, 9: ")
    assert found[11] == "and 15 more; python -m src.manifest check names them all"


def test_few_missing_clips_are_borne_as_in_training(folder):
    """Entries are counted, though these two name one file: a draw of either one needs another in its place."""
    entries = [entry("a"), entry("b"), *(entry(name, audio_filepath="gone.wav") for name in "cd")]
    samples, warning = read(folder, entries, max_bad_fraction=0.5)
    assert len(samples) == 4
    assert warning.split("\n") == [
        f"manifest {folder / 'm.jsonl'}: 2 of 4 entries look odd",
        f"line 3, c: {folder / 'gone.wav'}: no such audio file",
        f"line 4, d: {folder / 'gone.wav'}: no such audio file",
    ]
    assert "allows fewer missing files" in refused(folder, entries, max_bad_fraction=0.49)[0]


def test_what_is_only_suspicious_is_told(folder):
    entries = [
        entry("a", duration=0.05),
        entry("a"),
        entry("b", transcription=""),
        entry("c", transcription="", transcribed=False),
        entry("", duration=31),
        entry("d", target="Hello."),
    ]
    expected = [
        "line 1, a: lasts 0.050 s; clips must last at least 0.1 s",
        "line 2, a: this audio_id is used in line 1 as well",
        "line 3, b: transcription is empty: stage 1 learns its target",
        "line 5, (no id): audio_id is empty",
        "line 5, (no id): lasts 31.00 s; what comes after 30 s is not heard",
        "line 6, d: target is not the transcription, which stage 1 learns in its place",
    ]
    samples, warning = read(folder, entries)
    assert len(samples) == 6 and warning.split("\n")[1:] == expected
    of_stage_2 = [line for line in expected if "stage 1" not in line]  # it does not read transcriptions
    assert read(folder, entries, stage=2)[1].split("\n")[1:] == of_stage_2


def test_stage_1_learns_transcriptions_as_published(folder):
    entries = [
        entry("a", target="What a voice!", transcription="hello there"),
        entry("b", target="a dog barks", transcription=" ", transcribed=False),
    ]
    assert [sample.target for sample in read(folder, entries, stage=1)[0]] == ["hello there", "a dog barks"]
    assert [sample.target for sample in read(folder, entries, stage=2)[0]] == ["What a voice!", "a dog barks"]


@pytest.mark.parametrize(("content", "message"), [("[]", "is empty: it has no samples"), ("[{", "line 1: not JSON")])
def test_what_is_no_manifest_is_not_trained_on(tmp_path, content, message):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ManifestError, match=rf"m\.json {message}"):
        read_training_manifest(tmp_path / "m.json", 1, 30.0, 0.001)


def test_300_damaged_manifests_are_trained_on_or_named(tmp_path):
    for number in range(10):
        (tmp_path / f"a{number}.wav").write_bytes(b"not looked at")
    refused = 0
    for path in damaged_manifests(tmp_path):
        try:
            samples, warning = in_time(20, path.name, read_training_manifest, path, 1, 30.0, 0.001)
            assert samples and all(sample.target.strip() for sample in samples)
            assert str(path) in warning or not warning
        except ManifestError as error:
            assert str(path) in str(error)
            refused += 1
    assert 100 < refused < 300

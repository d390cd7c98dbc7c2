import json
import random

import pytest

from src.manifest import ManifestError, read_entries, read_manifest, write_manifest
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
        ("[{", "is not valid JSON: .*line 1 column 3"),
        (json.dumps([ENTRY])[:-1], "is not valid JSON: Expecting ',' or ']'"),
        (json.dumps([ENTRY]) + "[", "is not valid JSON: Extra data"),
        ("[" * 100_000, "is not valid JSON behind line 1"),
        (json.dumps(ENTRY) + "\n{oops\n", "line 2: not valid JSON"),
        (json.dumps(ENTRY) + "\n" + '{"a":' * 100_000, "line 2: not valid JSON"),
        (json.dumps(ENTRY | {"duration": 0}).replace("0}", "9" * 5000 + "}"), "line 1: not valid JSON"),
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
    ],
)
def test_problems_are_named(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message) as raised:
        read_manifest(write(tmp_path, content))
    assert "manifest.json" in str(raised.value) and len(str(raised.value)) < 500


def test_a_missing_and_a_binary_manifest(tmp_path):
    for path in (tmp_path / "gone.json", tmp_path, tmp_path / "nul\0.json"):
        with pytest.raises(ManifestError, match="cannot be read: "):
            read_manifest(path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="is not UTF-8 text"):
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

import json

import pytest

from src.json_records import JSONFileError, read_json_records


def read(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(record.place, record.value, record.problem) for record in read_json_records(path)]


def test_a_list_and_lines_are_read_alike(tmp_path):
    values = [{"a": "x\u2028y\x85z"}, 7, None, [1, [2]], {}]  # line breaks to str.splitlines, not to JSON
    lines = "\n \r\n".join(json.dumps(value, ensure_ascii=False) for value in [values[0], *values])
    assert read(tmp_path, lines)[1:] == [(f"line {2 * n + 1}", value, "") for n, value in enumerate(values, 1)]
    for listed in (json.dumps(values), "\ufeff \n" + json.dumps(values, ensure_ascii=False, indent=1) + "\r\n"):
        assert [value for _, value, _ in read(tmp_path, listed)] == values
    assert [place for place, _, _ in read(tmp_path, json.dumps(values[:3], indent=1))] == [
        "line 2, entry 1", "line 5, entry 2", "line 6, entry 3",
    ]  # fmt: skip
    assert read(tmp_path, "") == read(tmp_path, "\n \n") == read(tmp_path, " [ ] ") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{oops", "not JSON: Expecting property name enclosed in double quotes at column 2, found 'oops'"),
        (b'{"a": ', "not JSON: Expecting value at column 7, found the end of the line"),
        (b'{"a": "' + b"x" * 99, f"not JSON: Unterminated string starting at column 7, found '\"{'x' * 58}..."),
        (b'{"a": "\xfc"}', "not UTF-8 text: invalid start byte, found byte 0xfc"),
        (b'{"a":' * 100_000, "not JSON that can be read: lists or objects are nested too deeply"),
        (b"9" * 5000, "not JSON that can be read: Exceeds the limit"),
    ],
)
def test_lines_that_are_not_json_are_named_and_the_others_read(tmp_path, line, problem):
    first, (place, value, found), last = read(tmp_path, b'{"a": 1}\n' + line + b"\n[2]")
    assert (first, last) == (("line 1", {"a": 1}, ""), ("line 3", [2], ""))
    assert (place, value) == ("line 2", None) and found.startswith(problem) and len(found) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[1,\n{"a" 2}]', "line 2: not JSON: Expecting ':' delimiter at column 6, found '2}]'"),
        (b"[1,\n2\n", "line 3: not JSON: Expecting ',' or ']' at column 1, found the end of the line"),
        (b"[1,\n2 3]", "line 2: not JSON: Expecting ',' or ']' at column 3, found '3]'"),
        (b"[1]\n\n{}", "line 3: not JSON: Extra data after the list at column 1, found '{}'"),
        (b'[1,\n"\xff"]', "line 2: not UTF-8 text: invalid start byte, found byte 0xff"),
        (b"[1,\n" + b"[" * 100_000, "after line 1: not JSON that can be read: lists or objects are nested too deeply"),
        (b"[\n1,\n" + b"9" * 5000 + b"]", "after line 2: not JSON that can be read: Exceeds the limit"),
    ],
)
def test_a_list_that_stops_being_json_cannot_be_read_on(tmp_path, content, message):
    with pytest.raises(JSONFileError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'file.json'} {message}") and len(str(caught.value)) < 300


def test_files_that_cannot_be_opened(tmp_path):
    for path in (tmp_path / "gone.json", tmp_path, tmp_path / "nul\0.json"):
        with pytest.raises(JSONFileError, match=r"cannot be read: (No such file|Is a directory|embedded null byte)"):
            read_json_records(path)

import json
import re

import pytest

from evaluation.result_files import (
    BenchmarkFileError,
    answer_of,
    check_same_items,
    check_unique,
    complete,
    read_benchmark,
    read_records,
    read_result,
)


def key(record):
    return str(record["id"])


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_lines_and_lists_are_read_alike(tmp_path):
    lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text('\ufeff{"a": "x\u2028y"}\r\n\n{"a": 2}\n', encoding="utf-8")
    array.write_text('[{"a": "x\u2028y"}, {"a": 2}]', encoding="utf-8")
    assert read_records(lines) == read_records(array) == ([{"a": "x\u2028y"}, {"a": 2}], [])


def test_broken_entries_are_named_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": \n7\n{"a": 2}\n')
    records, broken = read_records(path)
    assert records == [{"a": 1}, {"a": 2}]
    assert [f"{path} line 2" in broken[0], f"{path} line 3: expected an object, found int" in broken[1]] == [True, True]
    path.write_text('[{"a": 1}, "x"]')
    assert read_records(path)[1] == [f"{path} line 1, entry 2: expected an object, found str"]


def test_duplicates_are_named():
    check_unique("f", ["1", "2"])
    with pytest.raises(BenchmarkFileError, match=r"f: 1 item\(s\) occur more than once: 2\."):
        check_unique("f", ["1", "2", "2", "2"])


def test_benchmarks_must_be_sound(tmp_path):
    path = tmp_path / "b.jsonl"
    required = {"question": str, "id": (str, int)}
    with pytest.raises(BenchmarkFileError, match=r"b\.jsonl: no such file\. Get it from X"):
        read_benchmark(path, required, "Get it from X")
    path.write_text('{"id": 1, "question": "?"}\n\n{"id": 2}\nnonsense\n{"id": null, "question": 3}\n')
    with pytest.raises(BenchmarkFileError) as caught:
        read_benchmark(path, required, "")
    assert [line.partition("b.jsonl ")[2] for line in str(caught.value).splitlines()[:-1]] == [
        "line 4: not JSON: Expecting value at column 1, found 'nonsense'",
        "line 3: question must be str, found no such field",
        "line 5: question must be str, found 3",
        "line 5: id must be str or int, found None",
    ]
    assert "4 problem(s)" in str(caught.value)
    path.write_text('{"id": 1, "question": "?"}\n{"id": 1, "question": "!"}\n')
    with pytest.raises(BenchmarkFileError, match="more than once: 1"):
        read_benchmark(path, required, "")
    path.write_text("\n")
    with pytest.raises(BenchmarkFileError, match=r"holds no items\. Get it from X"):
        read_benchmark(path, required, "Get it from X")
    path.write_text('{"id": 1, "question": "?", "extra": 2}\n')
    assert read_benchmark(path, required, "") == [{"id": 1, "question": "?", "extra": 2}]


def test_completion_takes_the_truth_from_the_reference():
    answered = {"1": {"id": 1, "answer": "forged", "response": "A"}}
    records, missing = complete("f", answered, {"1": {"id": 1, "answer": "x"}, "2": {"id": 2}})
    assert records[0] == {"id": 1, "answer": "x", "response": "A"}
    assert records[1] == {"id": 2, "error": "not in the result file"} and missing == ["2"]


def test_results_are_completed_in_the_order_of_the_reference(tmp_path):
    path = write(tmp_path / "r.jsonl", {"id": 3, "response": "c"}, {"id": 1, "response": "a"})
    path.write_text(path.read_text() + "half a li")
    whole = write(tmp_path / "all.jsonl", {"id": 1}, {"id": 2}, {"id": 3, "response": "not an answer of this run"})
    result = read_result(path, key, ["response"])
    assert (list(result.items), result.missing, len(result.broken)) == (["3", "1"], [], 1)
    result = read_result(path, key, ["response"], whole)
    assert (list(result.items), result.missing, len(result.broken)) == (["1", "2", "3"], ["2"], 1)
    assert [answer_of(record, ["response"]) for record in result.items.values()] == ["a", None, "c"]
    assert list(read_result(write(tmp_path / "none.jsonl"), key, ["response"], whole).items) == ["1", "2", "3"]


ASKED_ITEM = {"id": 1, "question": "Which?", "choice_a": "cat", "choice_b": "dog", "choices": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("field", "there"),
    [("question", "What?"), ("choice_a", "cow"), ("choices", ["dog", "cat"]), ("choice_d", None)],
)
def test_answers_to_another_version_of_the_benchmark_are_refused(tmp_path, field, there):
    item = ASKED_ITEM | {"choice_d": "owl"}
    path = write(tmp_path / "r.jsonl", item | {"response": "A"}, item | {"id": 2, "response": "A"})
    whole = write(tmp_path / "all.jsonl", item, item | {"id": 2, field: there})
    with pytest.raises(
        BenchmarkFileError, match=rf"1 of 2 item\(s\) were asked otherwise .* of item 2 {field} is"
    ) as caught:
        read_result(path, key, ["response"], whole)
    assert str(caught.value).endswith("Pass the version of the benchmark that was answered, or answer this one")


def test_a_prompt_is_compared_where_it_is_the_question(tmp_path):
    told = [write(tmp_path / f"{p}.jsonl", ASKED_ITEM | {"prompt": p, "response": "A"}) for p in ("Sing", "Say")]
    ours, theirs = (read_result(path, key, ["response"]) for path in told)
    check_same_items(ours, theirs)  # what the models were told
    read_result(told[0], key, ["response"], told[1])
    ours, theirs = (read_result(path, key, ["response"], asked_in=("prompt",)) for path in told)
    with pytest.raises(BenchmarkFileError, match="item 1 has another prompt in"):
        check_same_items(ours, theirs)
    with pytest.raises(BenchmarkFileError, match="of item 1 prompt is 'Sing', and there 'Say'"):
        read_result(told[0], key, ["response"], told[1], asked_in=("prompt",))


def test_an_answer_with_a_label_is_the_one_without(tmp_path, capsys):
    item = {"id": 1, "choices": ["cat", "dog"], "answer": "cat", "response": "A"}
    labelled = item | {"choices": ["(A) cat", "(B) dog"], "answer": "(A) cat"}
    paths = [
        write(tmp_path / f"{n}.jsonl", record) for n, record in enumerate((item, labelled, item | {"answer": "dog"}))
    ]
    read_result(paths[1], key, ["response"], paths[0])
    assert capsys.readouterr().err == ""
    plain, same, other = (read_result(path, key, ["response"]) for path in paths)
    check_same_items(plain, same)
    with pytest.raises(BenchmarkFileError, match="item 1 has another answer in"):
        check_same_items(same, other)


def test_a_corrected_answer_key_counts_and_is_told(tmp_path, capsys):
    item = ASKED_ITEM | {"answer_gt": "cat"}
    path = write(tmp_path / "r.jsonl", item | {"response": "A", "question": " Which? \n"})
    whole = write(tmp_path / "all.jsonl", item | {"choice_c": "cow"})  # a field that the result lacks
    assert read_result(path, key, ["response"], whole).items["1"]["answer_gt"] == "cat"
    assert capsys.readouterr().err == ""
    told = {"question": "Listen. Which? Say A or B.", "choices": ["(A) cat", "(B)  dog"]}
    path = write(tmp_path / "r.jsonl", item | told | {"response": "A"})
    assert read_result(path, key, ["response"], whole).items["1"]["choices"] == ["cat", "dog"]
    whole = write(tmp_path / "all.jsonl", item | {"answer_gt": "dog"})
    assert read_result(path, key, ["response"], whole).items["1"]["answer_gt"] == "dog"
    told = capsys.readouterr().err
    assert told.startswith("warning: ") and told.endswith("to 1 of 1 item(s), and counts: 1\n")


def test_items_without_a_key_are_numbered_unless_they_must_be_found_again(tmp_path):
    path = write(tmp_path / "r.jsonl", {"response": "a"}, {"response": "b"})
    assert list(read_result(path, key, ["response"]).items) == ["1", "2"]
    with pytest.raises(BenchmarkFileError, match=r"r\.jsonl item 1: no field 'id' to tell it by"):
        read_result(path, key, ["response"], write(tmp_path / "all.jsonl", {"id": 1}))


@pytest.mark.parametrize(
    ("records", "reference", "message"),
    [
        ([], None, "no items to score"),
        ([{"id": 1}], None, "no item has a field 'response'. Is this a result of this benchmark?"),
        ([{"id": 1, "response": ""}] * 2, None, "more than once: 1"),
        ([{"id": 9, "response": ""}], '{"id": 1}', "not in the reference: 9"),
        ([{"id": 1, "response": ""}], '{"id": 1}\n{"id', "line 2: not JSON"),
        ([{"id": 1, "response": ""}], '{"id": 1}\n{"id": 1}', "all.jsonl: 1 item(s) occur more than once"),
    ],
)
def test_results_that_cannot_be_scored(tmp_path, records, reference, message):
    if reference:
        (tmp_path / "all.jsonl").write_text(reference)
    with pytest.raises(BenchmarkFileError, match=re.escape(message)):
        read_result(write(tmp_path / "r.jsonl", *records), key, ["response"], reference and tmp_path / "all.jsonl")


def test_answers_and_their_absence():
    assert answer_of({"a": None, "b": "x"}, ["a", "b"]) == "x"
    assert answer_of({"a": ""}, ["a"]) == "" and answer_of({"a": 7}, ["a"]) == "7"
    assert answer_of({"a": "x", "error": "no audio"}, ["a"]) is answer_of({}, ["a"]) is None


def test_only_the_same_items_can_be_compared(tmp_path):
    def result(name, *records):
        return read_result(
            write(tmp_path / name, *({"response": "", **record} for record in records)), key, ["response"]
        )

    ours = result("ours", {"id": 1, "question": "?"}, {"id": 2, "audio_path": "x"})
    check_same_items(ours, result("theirs", {"id": 2, "audio_path": "y"}, {"id": 1, "question": "?"}))
    with pytest.raises(BenchmarkFileError, match=r"theirs lacks 1 item\(s\) of .*ours: 2\. .*--reference"):
        check_same_items(ours, result("theirs", {"id": 1}))
    with pytest.raises(BenchmarkFileError, match=r"ours lacks 2 item\(s\) of .*theirs: 3, 4"):
        check_same_items(ours, result("theirs", {"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}))
    with pytest.raises(BenchmarkFileError, match=r"item 1 has another question in .*theirs"):
        check_same_items(ours, result("theirs", {"id": 1, "question": "What?"}, {"id": 2}))


def test_of_items_with_one_text_the_first_is_the_first(tmp_path):
    asked = write(tmp_path / "asked.jsonl", *({"prompt": p, "reference": r} for p, r in ["aA", "bB", "aC", "aD"]))
    path = write(tmp_path / "r.jsonl", *({"prompt": p, "response": a} for p, a in ["a1", "b2", "a3"]))
    result = read_result(path, key, ["response"], asked, text=lambda record: record["prompt"])
    assert list(result.items) == ["a", "b", "a (2)", "a (3)"] and result.missing == ["a (3)"]
    assert [(r["reference"], r.get("response")) for r in result.items.values()] == [
        ("A", "1"), ("B", "2"), ("C", "3"), ("D", None),
    ]  # fmt: skip
    assert list(read_result(path, key, ["response"], text=lambda record: record["prompt"]).items) == ["1", "2", "3"]

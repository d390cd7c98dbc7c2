import json

import pytest

from evaluation.journal import AnswerRecord, Journal, ResumeError, append_lines, partial_files, remove_answers

SETTINGS = {"steps": 4, "checkpoint": "a"}
RECORDS = [{"id": n} for n in range(4)]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_on_disk_at_once_and_taken_up_again(tmp_path):
    output = tmp_path / "deep" / "r.jsonl"
    journal = Journal(output, "response", SETTINGS)
    journal.append({2: AnswerRecord("zwei\u2028\n")})
    journal.append({0: AnswerRecord("null"), 3: AnswerRecord("", "no audio")})
    again = Journal(output, "response", SETTINGS)
    assert again.answers == {2: AnswerRecord("zwei\u2028\n"), 0: AnswerRecord("null"), 3: AnswerRecord("", "no audio")}
    assert [again.is_missing(index) for index in range(4)] == [False, True, False, True]  # errors are tried again


def test_output_is_whole_in_order_and_alone(tmp_path):
    output = tmp_path / "r.jsonl"
    journal = Journal(output, "response", SETTINGS)
    journal.append({index: AnswerRecord(f"t{index}") for index in (3, 1, 0)})
    journal.append({2: AnswerRecord("", "no audio")})
    journal.finish(RECORDS, {"device": "cpu"})
    assert lines(output) == [
        {"id": 0, "response": "t0"},
        {"id": 1, "response": "t1"},
        {"id": 2, "response": "", "error": "no audio"},
        {"id": 3, "response": "t3"},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl", "r.jsonl.meta.json"]
    assert json.loads(journal.meta.read_text()) == {"settings": SETTINGS, "device": "cpu"}
    again = Journal(output, "response", SETTINGS)
    assert [index for index in range(4) if again.is_missing(index)] == [2]
    again.append({2: AnswerRecord("t2")})
    again.finish(RECORDS, {})
    assert lines(output)[2] == {"id": 2, "response": "t2"}


def test_what_was_heard_is_remembered(tmp_path):
    answers = {0: AnswerRecord("a", audio="1f"), 1: AnswerRecord("", "no audio"), 2: AnswerRecord("c", audio="2e")}
    journal = Journal(tmp_path / "r.jsonl", "response", SETTINGS)
    journal.append(answers)
    assert Journal(tmp_path / "r.jsonl", "response", SETTINGS).answers == answers
    journal.finish(RECORDS[:3], {})
    assert json.loads(journal.meta.read_text())["audio"] == "1f - 2e"
    assert lines(tmp_path / "r.jsonl")[0] == {"id": 0, "response": "a"}
    assert Journal(tmp_path / "r.jsonl", "response", SETTINGS).answers == answers


def test_killed_between_the_two_files_of_the_end(tmp_path):
    """The new meta file tells of more items than the old output has."""
    journal = Journal(tmp_path / "r.jsonl", "response", SETTINGS)
    journal.append({0: AnswerRecord("a", audio="1f")})
    journal.finish(RECORDS[:1], {})
    meta = json.loads(journal.meta.read_text())
    journal.meta.write_text(json.dumps(meta | {"audio": "1f 2e 3d"}))
    assert Journal(tmp_path / "r.jsonl", "response", SETTINGS).answers == {0: AnswerRecord("a", audio="1f")}


def test_lists(tmp_path):
    journal = Journal(tmp_path / "r.out", "answer", SETTINGS, as_list=True)
    journal.append({0: AnswerRecord("a"), 1: AnswerRecord("b")})
    journal.finish(RECORDS[:2], {})
    assert json.loads((tmp_path / "r.out").read_text()) == [{"id": 0, "answer": "a"}, {"id": 1, "answer": "b"}]
    assert Journal(tmp_path / "r.out", "answer", SETTINGS, as_list=True).answers == {
        0: AnswerRecord("a"),
        1: AnswerRecord("b"),
    }


@pytest.mark.parametrize("cut", range(1, 45))
def test_a_line_torn_by_a_kill_is_answered_again(tmp_path, cut):
    output = tmp_path / "r.jsonl"
    journal = Journal(output, "response", SETTINGS)
    journal.append({0: AnswerRecord("first")})
    journal.append({1: AnswerRecord("second")})
    torn = journal.path.read_bytes()[:-cut]
    journal.path.write_bytes(torn)
    again = Journal(output, "response", SETTINGS)
    assert again.answers == (
        {0: AnswerRecord("first")} if cut > 1 else {0: AnswerRecord("first"), 1: AnswerRecord("second")}
    )
    again.append({1: AnswerRecord("second"), 2: AnswerRecord("third")})
    assert Journal(output, "response", SETTINGS).answers == {
        0: AnswerRecord("first"), 1: AnswerRecord("second"), 2: AnswerRecord("third"),
    }  # fmt: skip


def test_other_settings_are_refused_by_name(tmp_path):
    output = tmp_path / "r.jsonl"
    Journal(output, "response", SETTINGS).append({0: AnswerRecord("x")})
    with pytest.raises(ResumeError, match=r"steps was 4, now 8\. .*--overwrite"):
        Journal(output, "response", {**SETTINGS, "steps": 8})
    journal = Journal(output, "response", SETTINGS)
    journal.finish(RECORDS[:1], {})
    with pytest.raises(ResumeError, match="checkpoint was 'a', now 'b'"):
        Journal(output, "response", {**SETTINGS, "checkpoint": "b"})


def test_answers_from_before_fingerprints_had_pieces_are_taken_up(tmp_path):
    output = tmp_path / "r.jsonl"
    Journal(output, "response", {"llm model.safetensors": "16 bytes"}).append({0: AnswerRecord("x")})
    with pytest.raises(ResumeError, match=r"llm model\.safetensors was '16 bytes', now '17 bytes, pieces 5d41'"):
        Journal(output, "response", {"llm model.safetensors": "17 bytes, pieces 5d41"})
    journal = Journal(output, "response", {"llm model.safetensors": "16 bytes, pieces 5d41"})
    journal.append({1: AnswerRecord("y")})
    journal.finish(RECORDS[:2], {})
    assert [line["response"] for line in lines(output)] == ["x", "y"]
    with pytest.raises(ResumeError, match="pieces 5d41"):
        Journal(output, "response", {"llm model.safetensors": "16 bytes, pieces 77aa"})


@pytest.mark.parametrize("ranks", [(0, 1), (1, 2)])
def test_two_runs_on_one_output_do_not_mix(tmp_path, ranks):
    """Both were started before either had an answer; the second one to begin answering is refused."""
    output = tmp_path / "r.jsonl"
    first = Journal(output, "response", SETTINGS)
    second = Journal(output, "response", {**SETTINGS, "steps": 8}, rank=ranks[0], world=ranks[1])
    late = Journal(output, "response", {**SETTINGS, "steps": 2})
    first.check_others()
    assert list(tmp_path.iterdir()) == []  # nothing is answered yet, and nobody is kept out
    first.append({0: AnswerRecord("x")})
    for begin in (second.check_others, lambda: second.append({1: AnswerRecord("z")})):
        with pytest.raises(ResumeError, match=r"r\.jsonl\.partial holds answers .* steps was 4, now 8"):
            begin()
    with pytest.raises(ResumeError, match="steps was 4, now 2"):
        late.append({0: AnswerRecord("y")})
    first.finish(RECORDS[:1], {})
    for begin in (late.check_others, lambda: late.append({0: AnswerRecord("y")})):
        with pytest.raises(ResumeError, match=r"r\.jsonl holds answers .* steps was 4, now 2"):
            begin()
    append_lines(late.path, late.settings, [])  # as if both had begun at the very same moment
    late.append({0: AnswerRecord("y")})
    with pytest.raises(ResumeError, match="steps was 4, now 2"):
        late.finish(RECORDS[:1], {})
    assert lines(output) == [{"id": 0, "response": "x"}] and len(partial_files(output)) == 1


def test_unfinished_answers_without_their_settings_are_refused(tmp_path):
    journal = Journal(tmp_path / "r.jsonl", "response", SETTINGS)
    journal.append({0: AnswerRecord("x")})
    whole = journal.path.read_text()
    for damaged in ("\0" * 50, whole[5:]):
        journal.path.write_text(damaged)
        with pytest.raises(ResumeError, match="steps was None, now 4"):
            Journal(tmp_path / "r.jsonl", "response", SETTINGS)


def test_an_output_of_unknown_origin_is_not_touched(tmp_path):
    output = tmp_path / "r.jsonl"
    output.write_text("precious\n")
    with pytest.raises(ResumeError, match="does not say how it was made"):
        Journal(output, "response", SETTINGS)
    assert output.read_text() == "precious\n"


def test_an_empty_file_is_as_good_as_none(tmp_path):
    output = tmp_path / "r.jsonl"
    output.touch()  # as a call that makes a temporary file leaves it
    output.with_name("r.jsonl.partial").touch()
    journal = Journal(output, "response", SETTINGS)
    assert journal.answers == {}
    journal.append({0: AnswerRecord("a")})
    journal.finish(RECORDS[:1], {})
    assert lines(output) == [{"id": 0, "response": "a"}]


def test_ranks_write_apart_and_are_read_together(tmp_path):
    output = tmp_path / "r.jsonl"
    ranks = [Journal(output, "response", SETTINGS, rank=rank, world=2) for rank in (0, 1)]
    ranks[0].append({0: AnswerRecord("a"), 2: AnswerRecord("", "no audio")})
    ranks[1].append({1: AnswerRecord("b"), 2: AnswerRecord("c")})
    assert [path.name for path in partial_files(output)] == ["r.jsonl.partial.0", "r.jsonl.partial.1"]
    alone = Journal(output, "response", SETTINGS)  # the next run may have another number of processes
    assert alone.answers == {0: AnswerRecord("a"), 1: AnswerRecord("b"), 2: AnswerRecord("c")}
    alone.finish(RECORDS[:3], {})
    assert partial_files(output) == []


def test_an_answer_is_never_lost_to_an_error(tmp_path):
    output = tmp_path / "r.jsonl"
    for rank, answer in ((0, AnswerRecord("a")), (1, AnswerRecord("", "no audio"))):
        journal = Journal(output, "response", SETTINGS, rank=rank, world=2)
        journal.append({0: answer})
    assert Journal(output, "response", SETTINGS).answers == {0: AnswerRecord("a")}


def test_overwriting_removes_everything(tmp_path):
    output = tmp_path / "r.jsonl"
    journal = Journal(output, "response", SETTINGS)
    journal.append({0: AnswerRecord("a")})
    journal.finish(RECORDS[:1], {})
    journal.append({0: AnswerRecord("a")})
    other = tmp_path / "r.jsonl2"
    other.write_text("kept")
    remove_answers(output)
    assert list(tmp_path.iterdir()) == [other]

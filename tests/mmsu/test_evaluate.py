import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.benchmarks import MMSU
from evaluation.scoring import judge
from tests.evaluation.small_runs import write_lines

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "mmsu" / "evaluate.py"


CHOICES = {"choice_a": "cat", "choice_b": "bird sound", "choice_c": "a dog barking", "choice_d": "two men"}

# Labelled by hand: the response, the letter the official rule reads, the letter the strict rule reads.
SPELLINGS = [
    ("A", "A", "A"),
    ("B", "B", "B"),
    ("a", None, "A"),
    ("b", None, "B"),
    ("B.", "B", "B"),
    ("C)", "C", "C"),
    ("(C)", "C", "C"),
    ("(c)", None, "C"),
    ("[D]", "D", "D"),
    ('"B"', "B", "B"),
    ("'D'", "D", "D"),
    ("B:", "B", "B"),
    ("B\n", "B", "B"),
    (" B", "B", "B"),
    ("\n\n(C)\n", "C", "C"),
    (" B ", "B", "B"),
    ("**a**", None, "A"),
    ("**A**", None, "A"),
    ("**C.**", None, "C"),
    ("`D`", "D", "D"),
    ("$B$", "B", "B"),
    ("\\boxed{C}", "C", "C"),
    ("<answer>D</answer>", None, "D"),
    ("B<|eot_id|>", "B", "B"),
    ("The answer is D", None, "D"),
    ("The answer is D.", "D", "D"),
    ("The answer is (B)", "B", "B"),
    ("The answer is (B).", None, "B"),
    ("the answer is b", None, "B"),
    ("The answer is: C", None, "C"),
    ("The correct answer is **A**.", None, "A"),
    ("Answer: C", "A", "C"),
    ("answer: c.", None, "C"),
    ("Answer:D", "A", "D"),
    ("Option B", None, "B"),
    ("option b", None, "B"),
    ("Choice C is correct.", "C", "C"),
    ("C is the correct answer.", "C", "C"),
    ("I choose A.", "A", "A"),
    ("I would select option D", None, "D"),
    ("It's B", None, "B"),
    ("B, because the sound is high", "B", "B"),
    ("B because it sings", "B", "B"),
    ("D - two men", "D", "D"),
    ("B. bird sound", "B", "B"),
    ("A cat", "A", "A"),
    ("C a dog barking", "C", "C"),
    ("(B) bird sound", None, "B"),
    ("The answer is B. bird sound.", None, "B"),
    ("bird sound", None, "B"),
    ("Bird sound", "B", "B"),
    ("Bird sound.", "B", "B"),
    ("A dog barking", "A", "C"),
    ("I hear a dog barking.", None, "C"),
    ("It is the sound of two men talking", None, "D"),
    ("Not A but B", None, "B"),
    ("A is wrong. The answer is D.", "A", "D"),
    ("", None, None),
    ("   ", None, None),
    (".", None, None),
    ("?!", None, None),
    ("Bird", "B", None),
    ("Apple", "A", None),
    ("Before", "B", None),
    ("Dog", "D", None),
    ("A dog", "A", None),
    ("D minor", "D", None),
    ("C#", "C", None),
    ("A, B", "A", None),
    ("A B", "A", None),
    ("A and B", "A", None),
    ("A or B", "A", None),
    ("A/C", "A", None),
    ("ABCD", "A", None),
    ("A. The answer is B", "A", None),
    ("B. cat", "B", None),
    ("cat or bird sound", None, None),
    ("E", None, None),
    ("None of the above", None, None),
    ("I do not know.", None, None),
    ("It is not A", None, None),
    ("dcBa", "B", None),
    ("12", None, None),
]


def item(response, answer="cat", **extra):
    return {"id": "1", "question": "?", **CHOICES, "answer_gt": answer, "response": response, **extra}


def test_fixture_is_large_enough():
    assert len(SPELLINGS) >= 60
    assert len({response for response, _, _ in SPELLINGS}) == len(SPELLINGS)


@pytest.mark.parametrize(("response", "official", "strict"), SPELLINGS)
def test_spelling(response, official, strict):
    for letter in "ABCD":
        verdict = judge(MMSU, "1", item(response, answer=CHOICES[f"choice_{letter.lower()}"]))
        assert verdict.official == (letter == official)
        assert verdict.strict == (letter == strict)
        assert verdict.parsed == strict


def test_left_out_choices_are_neither_guessed_nor_counted():
    record = {**item("C", answer="cat"), "choice_c": None, "choice_d": None}
    verdict = judge(MMSU, "1", record)
    assert (verdict.chance, verdict.parsed, verdict.official, verdict.first) == (0.5, None, False, True)


def test_same_text_twice_is_right_by_either_letter():
    record = {**item("C", answer="cat"), "choice_c": "cat"}
    assert judge(MMSU, "1", record).official and judge(MMSU, "1", record).strict
    assert judge(MMSU, "1", {**record, "response": "cat"}).strict
    assert judge(MMSU, "1", record).chance == 0.5


def test_an_item_without_an_answer_is_wrong_whatever_else_it_says():
    no_field = item("A")
    del no_field["response"]
    for record in (item("A", error="no audio"), item(None), no_field):
        verdict = judge(MMSU, "1", record)
        assert (verdict.official, verdict.strict, verdict.parsed, verdict.error) == (False, False, None, True)
    assert not judge(MMSU, "1", item("")).error  # the model did answer: nothing


def test_two_published_denominators(tmp_path):
    """MMSU's own evaluator leaves out answers without a letter; an empty one, "None" and a missing one count there."""
    answers = ["A", "B", "the cat", "I cannot tell", "", "None", "A cat", 5, None]
    records = [item(answer, id=n, category="cd"[n % 2]) for n, answer in enumerate(answers)]
    records += [item("", id=9, error="no audio"), {k: v for k, v in item("", id=10).items() if k != "response"}]
    result = write_lines(tmp_path / "r.jsonl", records)
    done = run(result, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    total = scores["levels"]["total"]["total"]
    assert [v["key"] for v in scores["verdicts"] if v["undecided"]] == ["2", "3", "7", "8"]
    assert (total["n"], total["undecided"]) == (11, 4)
    assert (total["official"], total["official_decided"]) == (2 / 11, 2 / 7)
    assert scores["levels"]["category"]["c"]["official_decided"] == 2 / 3
    assert scores["rules"] == {"official": "official (DIFFA's)", "official_decided": "official (authors')"}
    assert "official (DIFFA's)" in done.stdout and "official (authors')" in done.stdout and "28.6 %" in done.stdout
    assert "4 answer(s) without a letter: wrong in official (DIFFA's), left out of official (authors')" in done.stdout


def test_where_nothing_can_be_read_the_authors_have_no_score(tmp_path):
    done = run(write_lines(tmp_path / "r.jsonl", [item("the cat")]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    total = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["levels"]["total"]["total"]
    assert (total["official"], total["official_decided"], total["official_decided_interval"]) == (0, None, None)


def test_a_correct_choice_that_is_null_is_as_published(tmp_path):
    record = {**item("D", answer=None), "choice_c": None, "choice_d": None}
    assert judge(MMSU, "1", record).official and not judge(MMSU, "1", {**record, "response": "B"}).official
    assert not judge(MMSU, "1", record).strict


def test_an_answer_beside_an_error_is_refused(tmp_path):
    result = write_lines(tmp_path / "r.jsonl", [item("A", id=7, error="time out"), item("A", id=8)])
    done = run(result, cwd=tmp_path)
    assert done.returncode == 2
    assert "item 7: has both an error ('time out') and an answer ('A')" in done.stderr
    assert (
        run(write_lines(result, [item(" ", id=7, error="x"), item("A", id=8, error="")]), cwd=tmp_path).returncode == 0
    )


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_command_from_another_folder(tmp_path):
    records = [
        item("A", id=1, category="Perception"),
        item("(A)", id=2, category="Perception"),
        item("B", id=3, category="Reasoning"),
        item("", id=4, category="Reasoning"),
    ]
    result = write_lines(tmp_path / "r.jsonl", records)
    done = run(result, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "official" in done.stdout and "strict" in done.stdout and "Perception" in done.stdout
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    total = scores["levels"]["total"]["total"]
    assert (total["n"], total["official"], total["strict"], total["unparsed"]) == (4, 0.5, 0.5, 0.25)
    assert (total["chance"], total["always_a"]) == (0.25, 1.0)
    assert scores["levels"]["category"]["Perception"]["official"] == 1.0
    low, high = total["official_interval"]
    assert (low, high) == (0.0, 1.0)  # of four items half right, all or none come up in 1 of 8 resamples
    assert [v["key"] for v in scores["verdicts"]] == ["1", "2", "3", "4"]
    assert not list(tmp_path.glob(".*partial"))


def test_broken_lines_are_named_and_fail_the_run(tmp_path):
    result = tmp_path / "r.jsonl"
    result.write_text(json.dumps(item("A")) + "\n{not json\n[1]\n")
    done = run(result, cwd=tmp_path)
    assert done.returncode == 1
    assert "line 2" in done.stderr and "line 3" in done.stderr and "2 broken" in done.stderr
    assert len(json.loads((tmp_path / "r.jsonl.scores.json").read_text())["broken"]) == 2


def test_duplicates_are_an_error(tmp_path):
    done = run(write_lines(tmp_path / "r.jsonl", [item("A"), item("B")]), cwd=tmp_path)
    assert done.returncode == 2 and "more than once: 1" in done.stderr
    assert not (tmp_path / "r.jsonl.scores.json").exists()


def test_reference_fixes_the_denominator_and_the_truth(tmp_path):
    reference = [{k: v for k, v in item("", id=n).items() if k != "response"} for n in (1, 2, 3, 4)]
    reference = write_lines(tmp_path / "mmsu.jsonl", reference)
    result = write_lines(tmp_path / "r.jsonl", [item("A", id=1), item("A", id=3, answer="two men")])
    done = run(result, "--reference", reference, cwd=tmp_path)
    assert done.returncode == 0 and "missing: 2, 4" in done.stdout
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    assert scores["missing"] == ["2", "4"]
    total = scores["levels"]["total"]["total"]
    assert (total["n"], total["official"], total["errors"]) == (4, 0.5, 2)
    stranger = write_lines(tmp_path / "s.jsonl", [item("A", id=9)])
    done = run(stranger, "--reference", reference, cwd=tmp_path)
    assert done.returncode == 2 and "not in the reference: 9" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no items"),
        ('{"id": 1}\n', "no item has a field 'response'"),
        ('{"id": 1, "response": "A"}\n', "item 1: no field 'answer_gt'"),
    ],
)
def test_useless_files_are_refused(tmp_path, content, message):
    (tmp_path / "r.jsonl").write_text(content)
    done = run(tmp_path / "r.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr


def test_all_levels_of_the_benchmark(tmp_path):
    levels = {
        "category": "Perception",
        "sub-category": "Linguistics",
        "sub-sub-category": "Phonology",
        "linguistics_sub_discipline": "Prosody",
        "task_name": "accent",
    }
    result = write_lines(tmp_path / "r.jsonl", [item("A", **levels), item("B", id=2, **levels | {"task_name": None})])
    assert run(result, cwd=tmp_path).returncode == 0
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["levels"]
    assert {level: {name: s["n"] for name, s in groups.items()} for level, groups in scores.items()} == {
        "total": {"total": 2}, "category": {"Perception": 2}, "sub-category": {"Linguistics": 2},
        "sub-sub-category": {"Phonology": 2}, "linguistics_sub_discipline": {"Prosody": 2}, "task_name": {"accent": 1},
    }  # fmt: skip


def test_comparison_with_another_run(tmp_path):
    ours = write_lines(tmp_path / "r.jsonl", [item("(A)" if n < 30 else "B", id=n) for n in range(40)])
    (tmp_path / "other").mkdir()
    records = [item("A" if n < 20 else "", id=n) for n in reversed(range(40))]
    theirs = write_lines(tmp_path / "other" / "r.jsonl", records)
    done = run(ours, "--compare", theirs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "compared with" in done.stdout and "McNemar's p" in done.stdout and "+25.0" in done.stdout
    comparison = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["comparison"]
    assert comparison["with"] == str(theirs)
    strict = comparison["strict"]
    assert (strict["ours"], strict["theirs"], strict["difference"]) == (0.75, 0.5, 0.25)
    assert (strict["only_ours"], strict["only_theirs"], strict["p"]) == (10, 0, 2 / 2**10)
    assert comparison["official"]["difference"] == 0.25
    # a line of the other file that cannot be read is named, counted, and fails the run
    theirs.write_text(theirs.read_text() + "oops\n")
    done = run(ours, "--compare", theirs, cwd=tmp_path)
    assert done.returncode == 1 and f"{theirs} line 41" in done.stderr and "1 broken" in done.stderr


def test_runs_on_other_items_are_not_compared(tmp_path):
    ours = write_lines(tmp_path / "r.jsonl", [item("A", id=1), item("A", id=2)])
    theirs = write_lines(tmp_path / "other.jsonl", [item("A", id=1), item("A", id=3)])
    done = run(ours, "--compare", theirs, cwd=tmp_path)
    assert done.returncode == 2 and "lacks 1 item(s)" in done.stderr and ": 2. Finish" in done.stderr
    assert not (tmp_path / "r.jsonl.scores.json").exists()
    reference = write_lines(tmp_path / "all.jsonl", [item(None, id=n) for n in (1, 2, 3)])
    done = run(ours, "--compare", theirs, "--reference", reference, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    official = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["comparison"]["official"]
    assert (official["only_ours"], official["only_theirs"], official["p"]) == (1, 1, 1.0)
    mmau = write_lines(
        tmp_path / "mmau.jsonl", [{"id": n, "choices": [], "answer": "", "response": ""} for n in (1, 2)]
    )
    done = run(ours, "--compare", mmau, cwd=tmp_path)
    assert done.returncode == 2 and "is this a result of this benchmark?" in done.stderr


def test_missing_file_is_named(tmp_path):
    done = run(tmp_path / "nowhere.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "nowhere.jsonl: no such file" in done.stderr

"""Scores that need a judge's verdicts: open questions and sd-qa."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.scoreboard import read_runs
from tests.evaluation.small_runs import scores_of
from voicebench.evaluate import main
from voicebench.overall import format_overall
from voicebench.parsing import parse_vote
from voicebench.qa import PEDANT_VERSION, official_vote
from voicebench.verdicts import JudgeQuestion, Verdicts, verdict_path

SETTINGS = {"kind": "open", "model": "some-judge", "rubric": "r", "samples": 3}


def write(folder, name, records):
    result = folder / name
    result.write_text("".join(json.dumps(record) + "\n" for record in records))
    return result


def judge(result, kind, ratings):
    """Verdicts on the records at the places that `ratings` names: numbers, or for votes what the judge said."""
    verdicts = Verdicts(verdict_path(result), SETTINGS | {"kind": kind})
    records = [json.loads(line) for line in result.read_text().splitlines()]
    for place, values in ratings.items():
        record = records[place]
        question = JudgeQuestion(str(place + 1), record["prompt"], record["response"], record.get("reference"))
        for sample, value in enumerate(values):
            rating = value if kind == "open" else parse_vote(value)
            verdicts.append(question, sample, str(value), rating)


@pytest.fixture
def opened(tmp_path):
    """Five open questions: one never answered, one not rated, one rated once only."""
    records = [{"prompt": f"q{n}", "response": f"a{n}"} for n in range(5)]
    records[2] |= {"response": "", "error": "no audio"}
    result = write(tmp_path, "diffa-wildvoice-test-audio.jsonl", records)
    judge(result, "open", {0: [5, 4, 3], 1: [2, 2, 2], 4: [3]})
    return result


@pytest.fixture
def asked(tmp_path):
    """Four questions with a reference, one never answered."""
    records = [
        {"prompt": "Capital of France?", "reference": "Paris", "response": " It is Paris.\n"},
        {"prompt": "Capital of Italy?", "reference": "Rome", "response": "Milan"},
        {"prompt": "Where is Rome?", "reference": "Italy", "response": "In Italy, I think"},
        {"prompt": "Where is Bonn?", "reference": "Germany", "response": "", "error": "no audio"},
    ]
    return write(tmp_path, "diffa-sd-qa-usa-audio.jsonl", records)


@pytest.fixture
def pedant(monkeypatch):
    """Stands in for qa-metrics: right is what begins as the reference does."""
    asked = []

    class PEDANT:
        def evaluate(self, reference, candidate, question):
            asked.append((reference, candidate, question))
            return candidate.startswith(reference[0][:1])

    package, module = ModuleType("qa_metrics"), ModuleType("qa_metrics.pedant")
    module.PEDANT = PEDANT
    monkeypatch.setitem(sys.modules, "qa_metrics", package)
    monkeypatch.setitem(sys.modules, "qa_metrics.pedant", module)
    return asked


@pytest.fixture
def no_pedant(monkeypatch):
    monkeypatch.setitem(sys.modules, "qa_metrics", None)


def test_open_questions_without_a_judge(tmp_path, capsys):
    result = write(tmp_path, "diffa-alpacaeval_full-test-audio.jsonl", [{"prompt": "q", "response": "a"}])
    assert main([str(result)]) == 0
    assert "not scored: no judge has rated these answers yet" in capsys.readouterr().out
    scores = scores_of(result)
    assert (scores["subset"], scores["evaluator"], scores["rating"]) == ("alpacaeval_full", "open", None)
    assert scores["items"] == 1 and "judge.py" in scores["not_scored"]


def test_mean_rating(opened, capsys):
    assert main([str(opened)]) == 0
    scores = scores_of(opened)
    assert scores["ratings"] == {"1": 4.0, "2": 2.0, "5": 3.0}
    assert scores["rating"] == 3.0 and scores["strict_rating"] == 2.5  # the unanswered one counts 1 there
    low, high = scores["rating_interval"]
    assert 2.0 <= low < 3.0 < high <= 4.0
    assert (scores["items"], scores["unanswered"], scores["unrated"], scores["partly_rated"]) == (
        5,
        ["3"],
        ["4"],
        ["5"],
    )
    assert scores["judge"]["model"] == "some-judge"
    told = capsys.readouterr().out
    assert "3 of 5 items rated by some-judge" in told
    assert "1 answer(s) not rated, and not counted: 4" in told and "1 answer(s) rated fewer than 3 times: 5" in told


def test_official_is_the_mean_of_all_ratings_strict_of_the_items(tmp_path):
    records = [{"prompt": f"q{n}", "response": f"a{n}"} for n in range(2)]
    result = write(tmp_path, "diffa-wildvoice-test-audio.jsonl", records)
    judge(result, "open", {0: [5, 5, 5], 1: [1]})
    assert main([str(result)]) == 0
    assert (scores_of(result)["rating"], scores_of(result)["strict_rating"]) == (4.0, 3.0)


def test_replies_in_a_result_stay_with_their_items(tmp_path, no_pedant):
    """As VoiceBench's own judge leaves them; two of the items have the same question and answer."""
    records = [{"prompt": "q", "response": "a", "score": ["1", "1", "1"]}] * 2
    records = [*records, {"prompt": "p", "response": "b", "score": ["5", "5", "5"]}]
    result = write(tmp_path, "result-m-commoneval-test-audio.jsonl", records)
    assert main([str(result)]) == 0
    scores = scores_of(result)
    assert scores["rating"] == pytest.approx(7 / 3) and scores["partly_rated"] == []
    asked = [{"prompt": "q", "reference": "r", "response": "a", "score": votes} for votes in (["Yes"] * 3, ["No"] * 3)]
    result = write(tmp_path, "m-sd-qa-usa-audio.jsonl", asked)
    assert main([str(result)]) == 0 and scores_of(result)["judge"] == 0.5


def test_a_judge_that_was_cut_short_gives_no_complete_score(opened, asked, pedant, capsys):
    assert main([str(opened)]) == 0
    [entry] = read_runs([opened.with_name(f"{opened.name}.scores.json")], [])
    assert (entry.official, entry.items) == (3.0, 4)  # of the five one is not rated
    text, complete = format_overall([opened.with_name(f"{opened.name}.scores.json")])
    assert "1 of 5 answers are not rated yet" in text and not complete
    judge(asked, "qa", {0: ["Yes"]})
    assert main([str(asked)]) == 0
    assert scores_of(asked)["official"] is None
    assert "2 answer(s) have no vote yet: run voicebench/judge.py again" in capsys.readouterr().out


def test_verdicts_on_other_answers_are_refused(opened, capsys):
    opened.write_text(opened.read_text().replace("a0", "something else"))
    assert main([str(opened)]) == 2
    assert "1 of the answers judged there are not in the result" in capsys.readouterr().err


def test_verdicts_of_another_kind_are_refused(asked, capsys, no_pedant):
    judge(asked, "open", {0: [5]})
    assert main([str(asked)]) == 2
    assert "verdicts of kind 'open', wanted 'qa'" in capsys.readouterr().err


def test_ratings_are_compared_on_the_items_rated_in_both(opened, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    records = [{"prompt": f"q{n}", "response": f"b{n}"} for n in range(5)]
    other = write(tmp_path / "other", opened.name, records)
    judge(other, "open", {n: [1, 1, 1] for n in range(4)})
    assert main([str(opened), "--compare", str(other)]) == 0
    comparison = scores_of(opened)["comparison"]["rating"]
    assert (comparison["items"], comparison["difference"]) == (2, 2.0)
    assert comparison["difference_interval"] == [1.0, 3.0]
    assert "+2.00 [1.00, 3.00] on 2 items" in capsys.readouterr().out


def test_sd_qa_says_what_is_missing(asked, no_pedant, capsys):
    assert main([str(asked)]) == 0
    told = capsys.readouterr().out
    assert "PEDANT: not installed" in told and "judge: no judge" in told and "contains the reference: 50.0 %" in told
    scores = scores_of(asked)
    assert (scores["pedant"], scores["judge"], scores["official"]) == ("not installed", "no judge", None)
    assert (scores["contains_reference"], scores["items"], scores["errors"]) == (0.5, 4, 1)


def test_sd_qa_is_the_mean_of_pedant_and_judge(asked, pedant, capsys):
    judge(asked, "qa", {0: ["Yes", "yes", "No"], 1: ["No", "no", "No."], 2: ["no", "Yes", "YES"]})
    assert main([str(asked)]) == 0
    scores = scores_of(asked)
    assert (scores["pedant"], scores["judge"]) == (0.25, 0.5)
    assert scores["official"] == 0.375 and "not_scored" not in scores
    assert pedant == [
        (["paris"], "it is paris.", "capital of france?"),
        (["rome"], "milan", "capital of italy?"),
        (["italy"], "in italy, i think", "where is rome?"),
    ]
    assert "official, the mean of PEDANT and of the judge: 37.5 %" in capsys.readouterr().out
    assert scores["verdicts"][0] == {
        "key": "1", "pedant": False, "judge": 1, "judge_strict": True, "contains_reference": True,
    }  # fmt: skip


def test_votes_count_as_the_word_alone_and_by_sense(asked, no_pedant, capsys):
    judge(asked, "qa", {0: ["Yes.", "Yes.", "No"], 1: ["Yes", "No"], 2: ["yes", "Yes.", "No"]})
    assert main([str(asked)]) == 0
    scores = scores_of(asked)
    assert [v["judge"] for v in scores["verdicts"]] == [0, 1 / 2, 1 / 3, 0]  # the last one was never answered
    assert [v["judge_strict"] for v in scores["verdicts"]] == [True, None, True, False]
    assert (scores["judge"], scores["judge_strict"]) == (pytest.approx((1 / 2 + 1 / 3) / 4), 2 / 3)
    assert (scores["unjudged"], scores["no_majority"]) == ([], ["2"])
    told = capsys.readouterr().out
    assert "judge: 20.8 %" in told and 'a vote is a yes if it is that word alone ("Yes." is a no)' in told
    assert "judge, strict: 66.7 %" in told and ", votes by their sense" in told
    assert "1 answer(s) without a majority of votes by sense, not counted in strict: 2" in told


@pytest.mark.parametrize(
    ("replies", "chance"),
    [
        (["Yes", "yes ", "no"], 1), (["No", "No", "Yes"], 0), (["Yes.", "Yes", "Yes."], 0), (["Yes"], 1),
        (["Yes", "Yes.", "no"], 1 / 3), (["yes", "no"], 1 / 2), (["maybe", "no"], 0),
        (["yes", "yes", "no", "no"], 1 / 2),
    ],
)  # fmt: skip
def test_official_vote(replies, chance):
    assert official_vote(replies) == chance


def test_answers_without_votes_are_left_out(asked, no_pedant, capsys):
    judge(asked, "qa", {0: ["Yes"]})
    assert main([str(asked)]) == 0
    scores = scores_of(asked)
    assert scores["unjudged"] == ["2", "3"] and scores["judge"] == 0.5 and scores["official"] is None
    assert "2 answer(s) without a vote, not counted: 2, 3" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "official"), [("0.2.17", 0.375), ("0.2.42", None)])
def test_official_score_is_of_the_published_version_of_pedant(asked, pedant, monkeypatch, capsys, version, official):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    judge(asked, "qa", {0: ["Yes", "yes", "No"], 1: ["No", "no", "No."], 2: ["no", "Yes", "YES"]})
    assert main([str(asked)]) == 0
    scores = scores_of(asked)
    assert (scores["pedant_version"], scores["pedant"], scores["official"]) == (version, 0.25, official)
    told = capsys.readouterr().out
    assert "PEDANT: 25.0 %" in told and f", of qa-metrics {version}" in told
    assert ("not_scored" in scores) == ("pip install qa-metrics==0.2.17" in told) == (official is None)


def test_the_published_version_of_pedant_is_what_is_installed():
    pins = (Path(__file__).resolve().parents[2] / "requirements-eval.txt").read_text()
    assert f"\nqa-metrics=={PEDANT_VERSION} " in pins


def test_pedant_without_its_classifiers(asked, monkeypatch, capsys):
    module = ModuleType("qa_metrics.pedant")

    def unreachable():
        raise FileNotFoundError("lr_classifier.pkl")

    module.PEDANT = unreachable
    monkeypatch.setitem(sys.modules, "qa_metrics", ModuleType("qa_metrics"))
    monkeypatch.setitem(sys.modules, "qa_metrics.pedant", module)
    assert main([str(asked)]) == 0
    assert "its classifiers could not be loaded (FileNotFoundError: lr_classifier.pkl)" in capsys.readouterr().out
    assert scores_of(asked)["official"] is None


def test_pedant_is_not_imported_for_other_subsets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "qa_metrics", None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = write(tmp_path, "diffa-mmsu-test-audio.jsonl", [{"reference": "A", "response": "A"}])
    assert main([str(result)]) == 0


def test_reference_may_be_missing(tmp_path, no_pedant, capsys):
    result = write(tmp_path, "diffa-sd-qa-usa-audio.jsonl", [{"prompt": "q", "response": "a"}])
    assert main([str(result)]) == 2
    assert "item 1: no field 'reference'" in capsys.readouterr().err

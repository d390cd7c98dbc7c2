import json
from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.benchmarks import LEADERBOARD
from evaluation.scoreboard import (
    PUBLISHED,
    ReportError,
    ScoreEntry,
    entries_of,
    label,
    overall,
    own_questions,
    places_of,
    read_published,
    read_runs,
    run_name,
    runs_of,
)
from evaluation.scoring import Verdict, score_levels


def levels(*right, groups=None):
    verdicts = [
        Verdict(key=str(n), groups=groups or {}, official=hit, strict=True, parsed="A", chance=0.25)
        for n, hit in enumerate(right)
    ]
    return {level: {name: asdict(s) for name, s in found.items()} for level, found in score_levels(verdicts).items()}


def write(path: Path, **scores) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"result": path.name.removesuffix(".scores.json"), **scores}))
    return path


def voicebench(path, subset, **scores):
    return write(path, benchmark="voicebench", subset=subset, evaluator="?", **scores)


@pytest.mark.parametrize(
    ("file", "benchmark", "subset", "name"),
    [
        ("base/mmsu.jsonl", "mmsu", None, "base"),
        ("x/base-mmsu.jsonl", "mmsu", None, "base"),
        ("x/mmsu_4steps.jsonl", "mmsu", None, "4steps"),
        ("x/diffa.mmau.json", "mmau", None, "diffa"),
        ("x/asr.jsonl", "asr", None, "x"),
        ("x/my-diffa-sd-qa-usa-audio.jsonl", "voicebench", "sd-qa", "my-diffa"),
        ("x/alpacaeval-test-audio.jsonl", "voicebench", "alpacaeval", "x"),
        ("x/answers.jsonl", "voicebench", None, "answers"),
    ],
)
def test_runs_are_called_after_their_files(file, benchmark, subset, name):
    assert run_name(Path(f"{file}.scores.json"), {"benchmark": benchmark, "subset": subset}) == name


def test_every_group_becomes_an_entry(tmp_path):
    path = write(tmp_path / "a" / "mmsu.jsonl.scores.json", benchmark="mmsu",
                 levels=levels(True, True, False, True, groups={"category": "Perception"}))  # fmt: skip
    total, group = read_runs([path], [])
    assert total.place == ("mmsu", "total", "total") and group.place == ("mmsu", "category", "Perception")
    assert (group.run, group.official, group.strict, group.items, group.chance) == ("a", 0.75, 1.0, 4, 0.25)
    assert group.official_interval[0] < 0.75 < group.official_interval[1]
    assert (label(total.place), label(group.place)) == ("total", "category: Perception")


def test_asr_has_two_error_rates():
    scores = {"benchmark": "asr", "utterances": 9, "wer": 0.1, "wer_interval": [0, 0.2], "cer": 0.05,
              "cer_interval": [0, 0.1]}  # fmt: skip
    wer, cer = entries_of("a", scores)
    assert (wer.place[2], wer.official, wer.official_interval, wer.unit) == ("WER", 0.1, (0, 0.2), "error rate")
    assert (cer.place[2], cer.official, cer.items) == ("CER", 0.05, 9)
    assert entries_of("a", scores | {"wer": None, "wer_interval": None}) == [cer]  # a script without spaces
    published = entries_of("a", scores | {"published": 0.5, "published_interval": [0.4, 0.6]})[-1]
    assert (published.place, published.official) == (("asr", "total", "published rule"), 0.5)


def test_voicebench_of_every_kind(tmp_path, capsys):
    paths = [
        voicebench(tmp_path / "m-openbookqa-test-audio.jsonl.scores.json", "openbookqa", levels=levels(True, False)),
        voicebench(tmp_path / "m-alpacaeval-test-audio.jsonl.scores.json", "alpacaeval", rating=3.5,
                   rating_interval=[3, 4], strict_rating=3.2, strict_rating_interval=[3, 3.5], items=7),
        voicebench(tmp_path / "m-sd-qa-usa-audio.jsonl.scores.json", "sd-qa", contains_reference=0.4,
                   contains_reference_interval=[0.3, 0.5], official=0.6, official_interval=[0.5, 0.7], items=8),
        voicebench(tmp_path / "m-sd-qa-gbr-audio.jsonl.scores.json", "sd-qa", contains_reference=0.1,
                   contains_reference_interval=[0, 0.2], official=None, not_scored="no judge", items=9),
        voicebench(tmp_path / "m-bbh-test-audio.jsonl.scores.json", "bbh", not_scored="no rule"),
        voicebench(tmp_path / "m-wildvoice-test-audio.jsonl.scores.json", "wildvoice", rating=None, not_scored="?"),
    ]  # fmt: skip
    entries = {entry.place[2]: entry for entry in read_runs(paths, [])}
    assert list(entries) == ["openbookqa", "alpacaeval", "sd-qa", "sd-qa (gbr)"]
    assert {entry.run for entry in entries.values()} == {"m"}
    assert {entry.place[:2] for entry in entries.values()} == {("voicebench", "subset")}
    assert entries["openbookqa"].official == 0.5
    assert (entries["alpacaeval"].unit, entries["alpacaeval"].shown) == ("rating", (70.0, (60, 80)))
    assert (entries["alpacaeval"].strict, entries["alpacaeval"].items) == (3.2, 7)
    assert (entries["sd-qa"].official, entries["sd-qa"].strict, entries["sd-qa"].items) == (0.6, 0.4, 8)
    assert entries["sd-qa"].shown == (60, (50, 70))
    assert entries["sd-qa (gbr)"].official is None
    assert entries["sd-qa (gbr)"].shown == (10, (0, 20))
    assert "m-bbh-test-audio.jsonl.scores.json: not scored, no rule" in capsys.readouterr().err


def test_a_single_domain_is_a_row_of_its_own(tmp_path):
    domain = voicebench(tmp_path / "m-x.json.scores.json", "mmsu", split="law", levels=levels(True))
    older = voicebench(tmp_path / "m-mmsu-art-audio.jsonl.scores.json", "mmsu", levels=levels(True))
    whole = voicebench(tmp_path / "m-mmsu-test-audio.jsonl.scores.json", "mmsu", split="test", levels=levels(True))
    entries = read_runs([domain, older, whole], ["m"])
    assert [entry.place[2] for entry in entries] == ["mmsu (law)", "mmsu (art)", "mmsu"]


def test_overall_as_on_the_public_leaderboard():
    # Nemotron 3 VoiceChat's submission, github.com/MatthewCYM/VoiceBench issue 29: overall 58.1
    ratings, rates = (3.59, 3.12, 3.06), (0.4340, 0.5046, 0.6440, 0.5270, 0.1712, 0.9962)
    entries = [
        ScoreEntry("n", ("voicebench", "subset", name), rating, unit="rating")
        for name, rating in zip(LEADERBOARD, ratings, strict=False)
    ]
    entries += [
        ScoreEntry("n", ("voicebench", "subset", name), rate) for name, rate in zip(LEADERBOARD[3:], rates, strict=True)
    ]
    (total,) = overall(entries)
    assert total.place == ("voicebench", "total", "overall") and round(100 * total.official, 1) == 58.1
    assert overall(entries[1:]) == []
    # as that submission had it
    full = ScoreEntry("n", ("voicebench", "subset", "alpacaeval_full"), 3.59, unit="rating")
    assert overall([*entries[1:], full]) == [total]
    lower = ScoreEntry("n", ("voicebench", "subset", "alpacaeval"), 1.0, unit="rating")
    assert overall([*entries[1:], full, lower]) == [total]  # the leaderboard's alpacaeval_full counts


def test_ratings_that_were_cut_short_give_no_overall_score_and_a_warning(tmp_path, capsys):
    ratings = {"rating": 5, "strict_rating": 5, "items": 199}
    whole = [voicebench(tmp_path / f"m-{s}-test-audio.jsonl.scores.json", s, **ratings) for s in LEADERBOARD[1:]]
    path = tmp_path / "m-alpacaeval-test-audio.jsonl.scores.json"
    assert "overall" in {e.place[2] for e in read_runs([*whole, voicebench(path, "alpacaeval", **ratings)], [])}
    assert capsys.readouterr().err == ""
    cut = voicebench(path, "alpacaeval", **ratings, unrated=[str(n) for n in range(195)])
    entries = {e.place[2]: e for e in read_runs([*whole, cut], [])}
    assert "overall" not in entries and (entries["alpacaeval"].items, entries["alpacaeval"].unrated) == (4, 195)
    assert capsys.readouterr().err.endswith(
        "alpacaeval-test-audio.jsonl.scores.json: 195 of 199 answers are not rated yet, no overall score counts it; "
        "run voicebench/judge.py again\n"
    )
    assert own_questions([entries["alpacaeval"]]) == [
        ("voicebench", "195 of m's 199 answers to VoiceBench alpacaeval are not rated yet: not to be compared with "
         "published scores")
    ]  # fmt: skip


def test_a_file_that_is_given_twice_counts_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a" / "mmsu.jsonl.scores.json", benchmark="mmsu", levels=levels(True, False))
    monkeypatch.chdir(tmp_path)
    assert read_runs([path, Path("a/mmsu.jsonl.scores.json")], []) == read_runs([path], [])


def test_published_scores_of_ones_own_are_checked(tmp_path):
    own = tmp_path / "own.json"
    row = {"name": "m", "benchmark": "mmsu", "source": "here", "scores": {"total": {"total": 50}}}
    own.write_text(json.dumps([row]))  # without a note
    assert read_published(own, [("mmsu", "total", "total")])[1] == ["m, MMSU: here"]
    for change, fault in (({"benchmark": "mmlu"}, "benchmark is 'mmlu'"), ({"source": ...}, "no field 'source'")):
        changed = {name: value for name, value in (row | change).items() if value is not ...}
        own.write_text(json.dumps([row, changed]))
        with pytest.raises(ReportError, match=rf"own\.json row 2: {fault}; expected rows as in published_scores"):
            read_published(own, [])


def test_names_tell_runs_apart(tmp_path):
    paths = [write(tmp_path / name / "x.jsonl.scores.json", benchmark="mmsu", levels=levels(True)) for name in "ab"]
    with pytest.raises(ReportError, match=r"a/x.* and .*b/x.* are both total of run 'x'; pass --names"):
        read_runs(paths, [])
    assert runs_of(read_runs(paths, ["one", "two"])) == [("one", False), ("two", False)]
    with pytest.raises(ReportError, match="has 3 names for 2 files"):
        read_runs(paths, ["a", "b", "c"])
    paths[1] = write(tmp_path / "b" / "mmau.json.scores.json", benchmark="mmau", levels=levels(False))
    entries = read_runs(paths[::-1], ["one"])
    assert runs_of(entries) == [("one", False)]
    assert [place[0] for place in places_of(entries)] == ["mmsu", "mmau"]  # the report's order, not that of the files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a scores file"),
        ('{"benchmark": "gsm8k"}', "not a scores file"),
        ('{"benchmark": "mmsu"}', "no 'levels' in these scores"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ReportError, match=rf"x\.json: {message}"):
        read_runs([tmp_path / "x.json"], [])
    with pytest.raises(ReportError, match=r"gone\.json: no such file"):
        read_runs([tmp_path / "gone.json"], [])


def test_published_rows_stand_where_a_run_has_one(tmp_path):
    rows = [
        {"name": "M", "benchmark": "mmsu", "source": "paper, table 1", "note": "5 items",
         "scores": {"total": {"total": 56.04}, "category": {"Perception": 40.0}}},
        {"name": "M", "benchmark": "voicebench", "source": "paper, table 2", "note": "",
         "scores": {"subset": {"sd-qa": 30.0}, "rating": {"alpacaeval": 3.5}}},
        {"name": "M", "benchmark": "mmau", "source": "paper, table 3", "note": "", "scores": {"total": {"total": 1}}},
    ]  # fmt: skip
    path = tmp_path / "published.json"
    path.write_text(json.dumps(rows))
    places = [("mmsu", "total", "total"), ("voicebench", "subset", "alpacaeval")]
    (mmsu, rating), sources = read_published(path, places)
    assert (mmsu.place, mmsu.official, mmsu.published) == (places[0], pytest.approx(0.5604), True)
    assert (rating.place, rating.official, rating.unit) == (places[1], 3.5, "rating")
    assert sources == ["M, MMSU: paper, table 1 (5 items)", "M, VoiceBench: paper, table 2"]
    path.write_text("[]")
    assert read_published(path, places) == ([], [])


def test_the_published_scores_say_where_they_come_from():
    rows = json.loads(PUBLISHED.read_text())
    assert {(row["name"], row["benchmark"]) for row in rows} >= {
        ("DIFFA", name) for name in ("mmsu", "mmau", "voicebench")
    }
    assert {row["benchmark"] for row in rows if row["name"] == "DIFFA-2"} == {"mmsu", "mmau", "mmar"}
    for row in rows:
        assert row["read_at"].startswith("https://")
        if "arXiv 2507.18452" in row["source"]:
            assert "table" in row["source"]
        elif row["benchmark"] == "airbench":
            assert "arXiv 2402.07729" in row["source"] and "leaderboard" in row["source"]
        else:  # what stands in DIFFA-2's paper was read in others' accounts of it
            assert "arXiv 2601.23161" in row["source"] and "second-hand" in row["source"]
        for level, groups in row["scores"].items():
            assert all(1 <= number <= (5 if level == "rating" else 100) for number in groups.values())
    scores = {row["benchmark"]: row["scores"] for row in rows if row["name"] == "DIFFA"}
    mean = sum(scores["mmau"]["task"].values()) / 3  # the paper's mean over its three domains
    assert scores["mmau"]["total"]["total"] == pytest.approx(mean, abs=0.01)

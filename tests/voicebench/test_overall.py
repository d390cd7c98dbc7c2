import json

import pytest

from evaluation.benchmarks import LEADERBOARD
from voicebench.evaluate import main

RATES = {"mmsu": "mcq", "openbookqa": "mcq", "bbh": "bbh", "ifeval": "ifeval", "advbench": "harm"}


def write_all(folder, skip=()):
    """Scores files of the nine subsets: ratings 3, 4 and 5, sd-qa 40 %, the others 50, 60, ... 90 %."""
    scores = {name: {"evaluator": "open", "rating": 3.0 + n} for n, name in enumerate(LEADERBOARD[:3])}
    scores["sd-qa"] = {"evaluator": "qa", "official": 0.4}
    for n, (name, evaluator) in enumerate(RATES.items()):
        scores[name] = {"evaluator": evaluator, "levels": {"total": {"total": {"official": (5 + n) / 10}}}}
    for name, content in scores.items():
        if name not in skip:
            content = {"benchmark": "voicebench", "subset": name, "items": 7, **content}
            (folder / f"diffa-{name}-test-audio.jsonl.scores.json").write_text(json.dumps(content))
    return folder


def test_overall_is_the_mean_of_nine_with_ratings_times_twenty(tmp_path, capsys):
    folder = write_all(tmp_path)
    (folder / "mmau.json.scores.json").write_text(json.dumps({"benchmark": "mmau", "levels": {}}))
    assert main(["--overall", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "overall: 70.00" in told  # of 60, 80, 100, 40, 50, 60, 70, 80, 90
    assert "4.00   80.00" in told
    files = [str(path) for path in folder.glob("diffa*.scores.json")]
    assert main(["--overall", *files]) == 0
    assert capsys.readouterr().out == told


def test_other_regions_of_sd_qa_do_not_count(tmp_path, capsys):
    folder = write_all(tmp_path)
    for region, rate in (("usa", 0.4), ("gbr", 0.9)):
        content = {"benchmark": "voicebench", "subset": "sd-qa", "evaluator": "qa", "items": 7, "official": rate,
                   "result": f"diffa-sd-qa-{region}-audio.jsonl"}  # fmt: skip
        name = "diffa-sd-qa-test-audio" if region == "usa" else "diffa-sd-qa-gbr-audio"
        (folder / f"{name}.jsonl.scores.json").write_text(json.dumps(content))
    assert main(["--overall", str(folder)]) == 0
    assert "overall: 70.00" in capsys.readouterr().out


def test_a_single_domain_is_not_mmsu(tmp_path, capsys):
    folder = write_all(tmp_path)
    law = {"benchmark": "voicebench", "subset": "mmsu", "evaluator": "mcq", "items": 7,
           "levels": {"total": {"total": {"official": 1.0}}}}  # fmt: skip
    for told in ({"split": "law", "result": "x.json"}, {"result": "diffa-mmsu-law-audio.jsonl"}):  # the latter of old
        (folder / "law.scores.json").write_text(json.dumps(law | told))
        assert main(["--overall", str(folder)]) == 0
        assert "overall: 70.00" in capsys.readouterr().out
    (folder / "diffa-mmsu-test-audio.jsonl.scores.json").unlink()
    assert main(["--overall", str(folder)]) == 1
    assert "mmsu: no scores file" in capsys.readouterr().out
    (folder / "law.scores.json").write_text(json.dumps(law | {"split": "test", "result": "diffa-mmsu-law-audio.jsonl"}))
    assert main(["--overall", str(folder)]) == 0  # what the scores say goes before the name


def test_fewer_than_nine_give_a_table_but_no_overall(tmp_path, capsys):
    folder = write_all(tmp_path, skip=("bbh", "wildvoice"))
    content = {"benchmark": "voicebench", "subset": "wildvoice", "evaluator": "open", "items": 3, "rating": None,
               "not_scored": "no judge"}  # fmt: skip
    (folder / "x.scores.json").write_text(json.dumps(content))
    assert main(["--overall", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "no overall score: 2 of 9 subsets missing" in told and "overall:" not in told
    assert "wildvoice: no judge" in told and "bbh: no scores file" in told and "60.00" in told


def test_alpacaeval_full_is_preferred_and_which_was_taken_is_said(tmp_path, capsys):
    folder = write_all(tmp_path)
    assert main(["--overall", str(folder)]) == 0
    told = capsys.readouterr().out
    assert (
        "overall: 70.00" in told
        and "the small alpacaeval was taken; VoiceBench's leaderboard has alpacaeval_full" in told
    )
    full = {"benchmark": "voicebench", "subset": "alpacaeval_full", "evaluator": "open", "items": 9, "rating": 1.0}
    (folder / "full.scores.json").write_text(json.dumps(full))
    assert main(["--overall", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "overall: 65.56" in told and "full.scores.json" in told and "diffa-alpacaeval-test" not in told  # 20, not 60
    assert "alpacaeval_full was taken for alpacaeval, as on VoiceBench's leaderboard" in told
    (folder / "diffa-alpacaeval-test-audio.jsonl.scores.json").unlink()
    assert main(["--overall", str(folder)]) == 0
    assert "overall: 65.56" in capsys.readouterr().out
    (folder / "full.scores.json").write_text(json.dumps(full | {"rating": None, "not_scored": "no judge"}))
    assert main(["--overall", str(folder)]) == 1
    assert "alpacaeval: no judge" in capsys.readouterr().out
    write_all(folder)
    assert main(["--overall", str(folder)]) == 0  # the one that is scored
    told = capsys.readouterr().out
    assert "full.scores.json" not in told and "the small alpacaeval was taken" in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.scores.json", '{"benchmark": "voicebench", "subset": "bbh"}', "two files for bbh"),
        ("b.scores.json", "[]", "not a scores file"),
        ("b.scores.json", "{", "not a scores file"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, capsys, name, content, message):
    folder = write_all(tmp_path)
    (folder / name).write_text(content)
    assert main(["--overall", str(folder)]) == 2
    told = capsys.readouterr().err
    assert message in told and name in told


def test_nothing_to_read(tmp_path, capsys):
    assert main(["--overall", str(tmp_path)]) == 2
    assert "score its results first" in capsys.readouterr().err
    assert main(["--overall", str(tmp_path / "none.scores.json")]) == 2
    assert "none.scores.json" in capsys.readouterr().err

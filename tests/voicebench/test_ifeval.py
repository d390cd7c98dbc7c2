"""IFEval's rates, with a stub in the place of lm-eval's checkers, which are an extra requirement."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.evaluation.small_runs import scores_of
from voicebench.evaluate import main
from voicebench.ifeval import load_checkers

FOLDER = Path(__file__).resolve().parents[2] / "voicebench"


def process_results(doc, results):
    """As lm-eval's: an instruction "say:WORD" wants the word in the response, loosely in any case."""
    wanted = [name.partition(":")[2] for name in doc["instruction_id_list"]]
    for _, kwargs in zip(wanted, doc["kwargs"], strict=True):
        kwargs.items()
    strict = [word in results[0] for word in wanted]
    loose = [word.lower() in results[0].lower() for word in wanted]
    return {
        "prompt_level_strict_acc": all(strict), "inst_level_strict_acc": strict,
        "prompt_level_loose_acc": all(loose), "inst_level_loose_acc": loose,
    }  # fmt: skip


def install(monkeypatch, punkt=True, network=True):
    """Stub modules for lm-eval and what it needs; returns what nltk was asked to fetch."""
    fetched = []

    def find(name):
        if not punkt:
            raise LookupError(name)

    def download(name, quiet):
        fetched.append(name)
        return network

    names = ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval", "lm_eval.tasks.ifeval.utils", "nltk", "langdetect")
    modules = {name: ModuleType(name) for name in names}
    modules["lm_eval.tasks.ifeval.utils"].process_results = process_results
    modules["nltk"].data, modules["nltk"].download = SimpleNamespace(find=find), download
    modules["langdetect"].DetectorFactory = type("DetectorFactory", (), {"seed": None})
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fetched


def record(key, instructions, response, **more):
    return {"key": key, "prompt": "p", "instruction_id_list": [f"say:{word}" for word in instructions],
            "kwargs": [{"num_words": None}] * len(instructions), "response": response, **more}  # fmt: skip


def write(folder, records):
    result = folder / "diffa-ifeval-test-audio.jsonl"
    result.write_text("".join(json.dumps(record) + "\n" for record in records))
    return result


RECORDS = [
    record(10, ["a", "b", "c"], "a B"),
    record(11, ["a"], "a"),
    record(12, ["X"], "x"),
    record(13, ["a"], "", error="no audio"),
]


def test_mean_of_four_rates(tmp_path, monkeypatch, capsys):
    assert install(monkeypatch) == []
    result = write(tmp_path, RECORDS)
    assert main([str(result)]) == 0
    scores = scores_of(result)
    rates = {"prompt_strict": 1 / 4, "instruction_strict": 2 / 6, "prompt_loose": 2 / 4, "instruction_loose": 4 / 6}
    assert scores["rates"] == pytest.approx(rates)
    total = scores["levels"]["total"]["total"]
    assert total["official"] == pytest.approx(sum(rates.values()) / 4)
    assert (total["n"], total["strict"], total["errors"], total["unparsed"]) == (4, 0.25, 1, 0.25)
    low, high = total["official_interval"]
    assert 0 <= low < total["official"] < high <= 1
    assert [verdict["key"] for verdict in scores["verdicts"]] == ["10", "11", "12", "13"]
    told = capsys.readouterr().out
    assert "25.0 %  50.0 %" in told and "33.3 %  66.7 %" in told and "43.8 %" in told


def test_the_checkers_see_what_voicebench_shows_them(tmp_path, monkeypatch):
    install(monkeypatch)
    seen = []
    monkeypatch.setattr(
        sys.modules["lm_eval.tasks.ifeval.utils"], "process_results",
        lambda doc, results: seen.extend(results) or process_results(doc, results),
    )  # fmt: skip
    responses = ["\n\na b\n", "<1> a b \n", " <1> a", "<4> a", "a b <|user|>", "a <|user|>\n", "<2>\na<|user|>", "<3>"]
    shown = ["\n\na b\n", "a b", " <1> a", "<4> a", "a b", "a <|user|>\n", "a", ""]
    records = [record(n, ["a"], response) for n, response in enumerate(responses)]
    assert main([str(write(tmp_path, records))]) == 0
    assert seen == shown


def test_interval_shrinks_to_the_score_where_all_items_agree(tmp_path, monkeypatch):
    install(monkeypatch)
    result = write(tmp_path, [record(n, ["a", "b"], "a") for n in range(5)])
    assert main([str(result)]) == 0
    total = scores_of(result)["levels"]["total"]["total"]
    assert total["official"] == pytest.approx(0.25) and total["official_interval"] == pytest.approx([0.25, 0.25])


def test_not_installed_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = write(tmp_path, RECORDS)
    assert main([str(result)]) == 0
    told = capsys.readouterr().out
    assert "not scored" in told and "pip install -r requirements-eval.txt" in told
    assert "pip install" in scores_of(result)["not_scored"] and scores_of(result)["items"] == 4


def test_sentence_model_is_fetched_or_asked_for(tmp_path, monkeypatch, capsys):
    result = write(tmp_path, RECORDS)
    assert install(monkeypatch, punkt=False, network=False) == [] and main([str(result)]) == 0
    told = capsys.readouterr().out
    assert "not scored" in told and "python -m nltk.downloader punkt_tab" in told and "NLTK_DATA" in told
    fetched = install(monkeypatch, punkt=False)
    assert main([str(result)]) == 0
    assert fetched == ["punkt_tab"] and "rates" in scores_of(result)


def test_language_guesses_are_seeded_and_the_scripts_folder_leaves_the_path(monkeypatch):
    install(monkeypatch)
    monkeypatch.syspath_prepend(FOLDER)  # as when a script there is started; its evaluate.py hides the library
    assert load_checkers() is process_results
    assert sys.modules["langdetect"].DetectorFactory.seed == 0
    assert str(FOLDER) not in sys.path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kwargs": None}, "item 10: no field kwargs"),
        ({"instruction_id_list": ["say:a"]}, "item 10: lm-eval's checkers cannot use its instructions ['say:a']"),
    ],
)
def test_unusable_instructions_are_named(tmp_path, monkeypatch, capsys, change, message):
    install(monkeypatch)
    assert main([str(write(tmp_path, [RECORDS[0] | change]))]) == 2
    assert message in capsys.readouterr().err


def test_compare_by_prompts_followed(tmp_path, monkeypatch, capsys):
    install(monkeypatch)
    ours, other = write(tmp_path, RECORDS), tmp_path / "other-ifeval-test-audio.jsonl"
    other.write_text("".join(json.dumps(record | {"response": "X"}) + "\n" for record in RECORDS))
    assert main([str(ours), "--compare", str(other)]) == 0
    comparison = scores_of(ours)["comparison"]
    assert comparison["prompt strict"]["difference"] == 0 and comparison["prompt loose"]["difference"] == 0.25

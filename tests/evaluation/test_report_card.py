import json
from pathlib import Path

import pytest

from evaluation.report_card import main, read_metas
from evaluation.scoreboard import ReportError


def score(official, n):
    interval = [official - 0.1, official + 0.1]
    rates = {"official": official, "official_interval": interval, "strict": official, "strict_interval": interval}
    return {"n": n, **rates, "chance": 0.25, "always_a": 0.3}


def meta(steps, **changes):
    settings = {"steps": steps, "block_length": 4, "max_new_tokens": 4, "cache": "none", "threshold": None}
    settings |= {
        "checkpoint model.safetensors": "ab" * 32,
        "checkpoint config.json": "cd",
        "llm model.safetensors": f"16 bytes, pieces {'cd' * 32}",
    }
    return {
        "settings": settings | changes, "commit": "0a1b2c3d4e5f", "parts": {"diffa": "exp/<a>", "llm": "llada",
        "whisper": "w", "stage": 2, "family": "diffa"}, "device": "cpu", "precision": {"name": "float32"}, "errors": 1,
        "versions": {"python": "3.12", "torch": "2.13", "numpy": "2"}, "started": "2026-11-26T10:00:00+00:00",
        "forward_passes_per_item": 4.0, "tokens_per_second": 12.5,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """MMSU of as many items as published, MMAU of fewer and without a record of how it was made, sd-qa unofficial."""
    for name, n in (("mmsu.jsonl", 5000), ("mmau.json", 200)):
        levels = {"total": {"total": score(0.5, n)}, "category": {"c": score(0.9, n)}}
        scores = {"benchmark": name.partition(".")[0], "result": name, "levels": levels}
        (tmp_path / f"{name}.scores.json").write_text(json.dumps(scores))
    (tmp_path / "mmsu.jsonl.meta.json").write_text(json.dumps(meta(4)))
    sd_qa = {"benchmark": "voicebench", "result": "x-sd-qa-usa-audio.jsonl", "subset": "sd-qa", "split": "usa",
             "evaluator": "qa", "items": 553, "official": None, "contains_reference": 0.3, "not_scored": "no judge",
             "contains_reference_interval": [0.2, 0.4]}  # fmt: skip
    (tmp_path / "x-sd-qa-usa-audio.jsonl.scores.json").write_text(json.dumps(sd_qa))
    (tmp_path / "x-sd-qa-usa-audio.jsonl.meta.json").write_text(json.dumps(meta(16, threshold=0.9, cache="dual")))
    published = [{"name": "DIFFA", "benchmark": b, "source": "s", "note": "", "scores": {"total": {"total": 56.04}}}
                 for b in ("mmsu", "mmau")]  # fmt: skip
    (tmp_path / "published.json").write_text(json.dumps(published))
    return [*map(str, sorted(tmp_path.glob("*.scores.json"))), "--published", str(tmp_path / "published.json")]


def rows_of(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[field.strip() for field in line] for line in lines]


def test_a_card_has_scores_options_and_what_was_run(run, tmp_path):
    assert main([*run, "--name", "日本語", "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report_card.md").read_text(encoding="utf-8")
    rows = rows_of(text)
    assert text.startswith("# Report card: 日本語\n")
    assert ["MMSU", "5000", "50.0 % [40.0, 60.0]", "50.0 % [40.0, 60.0]", "25.0 %", "56.04 %"] in rows
    assert ["VoiceBench sd-qa", "553", "-", "30.0 % [20.0, 40.0]", "", ""] in rows
    assert "sd-qa has no official score; strict: the response holds the reference." in text
    assert ["mmsu.jsonl", "4", "4", "4", "", "1", "4", "12.5"] in rows
    assert ["x-sd-qa-usa-audio.jsonl", "16", "4", "4", "cache dual, threshold 0.9", "1", "4", "12.5"] in rows
    assert ["commit", "0a1b2c3d4e5f"] in rows and ["versions", "python 3.12, torch 2.13"] in rows
    assert ["checkpoint", "exp/<a> (model.safetensors abababababab)"] in rows
    assert ["llm", "llada (model.safetensors 16 bytes, pieces cdcdcdcdcdcd)"] in rows
    assert "MMSU: official (DIFFA's); MMAU: official rule" in text and "category" not in text
    assert "Published: DIFFA, MMSU: s" in text
    assert "No .meta.json tells how these were made: mmau.json." in text
    assert (
        "**Warning:** 日本語 answered 200 questions, MMAU has 1000: not to be compared with published scores." in text
    )


def test_the_page_in_html_is_one_file_with_the_same(run, tmp_path):
    assert main([*run, "--name", "a<b>", "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report_card.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "<h1>Report card: a&lt;b&gt;</h1>" in page
    assert "exp/&lt;a&gt;" in page and "<td>56.04 %</td>" in page and 'class="warning"' in page
    assert "http" not in page and "<script" not in page and "<img" not in page


def test_facts_that_differ_are_told_of_each(run, tmp_path):
    other = meta(16) | {"commit": "fedcba987654", "changed": True}
    (tmp_path / "x-sd-qa-usa-audio.jsonl.meta.json").write_text(json.dumps(other))
    assert main([*run, "--name", "a", "--output", str(tmp_path / "out")]) == 0
    rows = rows_of((tmp_path / "out" / "report_card.md").read_text())
    commits = "0a1b2c3d4e5f (mmsu.jsonl); fedcba987654 and changes (x-sd-qa-usa-audio.jsonl)"
    assert ["commit", commits] in rows


def test_results_of_one_name_keep_their_own_options(tmp_path):
    paths = []
    for benchmark in ("mmsu", "mmar"):
        path = tmp_path / benchmark / "base.jsonl.scores.json"
        path.parent.mkdir()
        path.with_name("base.jsonl.meta.json").write_text(json.dumps({"commit": benchmark}))
        paths.append(path)
    found = {"mmsu/base.jsonl": {"commit": "mmsu"}, "mmar/base.jsonl": {"commit": "mmar"}}
    assert read_metas([*paths, paths[0]]) == found and list(read_metas(paths[:1])) == ["base.jsonl"]
    (tmp_path / "mmar" / "base.jsonl.meta.json").write_text('{"comm')
    with pytest.raises(ReportError, match=r"base\.jsonl\.meta\.json: not JSON \(.*; answer again, or delete it"):
        read_metas(paths)


def test_results_of_one_name_in_folders_of_one_name_keep_their_own_options(tmp_path):
    paths = [tmp_path / benchmark / "run1" / "out.jsonl.scores.json" for benchmark in ("mmsu", "mmar")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.with_name("out.jsonl.meta.json").write_text(json.dumps({"commit": path.parts[-3]}))
    assert read_metas(paths) == {f"{name}/run1/out.jsonl": {"commit": name} for name in ("mmsu", "mmar")}


def test_a_result_behind_a_link_keeps_its_options(tmp_path):
    (tmp_path / "mmsu.jsonl").symlink_to(Path("disk") / "big.jsonl")
    (tmp_path / "mmsu.jsonl.meta.json").write_text('{"commit": "abc"}')
    assert read_metas([tmp_path / "mmsu.jsonl.scores.json"]) == {"mmsu.jsonl": {"commit": "abc"}}


def test_a_card_tells_the_rules_of_asr_apart(tmp_path):
    rates = {rate: 0.1 for rate in ("wer", "cer", "published")}
    (tmp_path / "asr.jsonl.scores.json").write_text(json.dumps({"benchmark": "asr", "utterances": 9, **rates}))
    assert main([str(tmp_path / "asr.jsonl.scores.json"), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report_card.md").read_text()
    assert ["ASR published rule", "9", "10.0 %", "-", ""] in rows_of(text)
    assert "(ASR: WER and CER after Whisper's text normalisation, published rule as in DIFFA-2)" in text


def test_a_card_is_of_one_run(run, tmp_path, capsys):
    assert main([*run, "--output", str(tmp_path / "out")]) == 2
    assert "a report card is of one run, found" in capsys.readouterr().err

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.benchmarks import ASR

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "asr" / "evaluate.py"

spec = importlib.util.spec_from_file_location("asr_evaluate", SCRIPT)
asr = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = asr  # dataclasses look their module up
spec.loader.exec_module(asr)


def write(folder, records, name="r.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def utterances_of(path):
    return asr.align_items(asr.read_result(path, ASR.key, ASR.answer_fields))


def test_errors_are_counted_by_kind():
    words = asr.align("1", "the cat sat on the mat", "the bat sat the mat now", False).words
    assert words == asr.Edits(6, 1, 1, 1) and (words.errors, words.rate) == (3, 0.5)
    u = asr.align("1", "abc", "abd", False)
    assert (u.characters, u.words) == (asr.Edits(3, 1, 0, 0), asr.Edits(1, 1, 0, 0))


@pytest.mark.parametrize(
    ("reference", "heard", "errors", "words"), [("", "a b", 2, 0), ("a b", "", 2, 2), ("", "", 0, 0)]
)
def test_empty_texts(reference, heard, errors, words):
    u = asr.align("1", reference, heard, False)
    assert (u.words.errors, u.words.length) == (errors, words)


def test_totals_weigh_by_words(tmp_path):
    path = write(
        tmp_path,
        [
            {"audio_id": "a", "transcription": "ONE BIG DOG RUNS", "response": "one big dog runs."},
            {"audio_id": "b", "transcription": "hello there", "response": "hello"},
            {"audio_id": "c", "transcription": "good bye", "response": "good bye", "error": "no audio"},
            {"audio_id": "d", "transcription": "so", "response": None},
        ],
    )
    utterances = utterances_of(path)
    total = asr.summarise(utterances)
    assert total["utterances"] == 4 and total["words"] == 9
    assert total["wer"] == 4 / 9  # one deleted word, and all those of the two items without an answer
    assert (total["substitutions"], total["deletions"], total["insertions"], total["errors"]) == (0, 4, 0, 2)
    assert (total["characters"], total["character_deletions"]) == (16 + 11 + 8 + 2, 6 + 8 + 2)
    low, high = total["wer_interval"]
    assert low <= total["wer"] <= high and asr.summarise(utterances)["wer_interval"] == (low, high)


def test_interval_of_a_known_rate():
    low, high = asr.interval([asr.Edits(1, 0, 1, 0), asr.Edits(1, 0, 0, 0)] * 200)
    assert low == pytest.approx(0.451, abs=0.01) and high == pytest.approx(0.549, abs=0.01)


def test_normalisation_forgives_case_punctuation_and_fillers(tmp_path):
    path = write(tmp_path, [{"transcription": "Mr. Smith can't come", "response": "uh, mister smith cannot COME!"}])
    (u,) = utterances_of(path)
    assert u.reference == "mister smith can not come" and u.words.errors <= 2
    path = write(tmp_path, [{"transcription": "Mr. Smith came", "response": "um, MISTER smith came!"}])
    (u,) = utterances_of(path)
    assert u.words.errors == 0


def test_two_runs_are_compared_utterance_by_utterance(tmp_path, capsys):
    texts = ["red green blue black", "come in", "go", "stop here now"] * 10
    ours = [{"audio_id": n, "transcription": text, "response": text} for n, text in enumerate(texts)]
    theirs = [{**record, "response": record["transcription"].replace("blue", "")} for record in reversed(ours)]
    other = str(write(tmp_path, theirs, "s.jsonl"))
    assert asr.main([str(write(tmp_path, ours)), "--compare", other]) == 0
    assert "WER 10.0 % there, -10.0 points here, 95 %" in capsys.readouterr().out
    comparison = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["comparison"]
    assert (comparison["wer"], comparison["wer_difference"]) == (0.1, -0.1)
    low, high = comparison["wer_difference_interval"]
    assert -0.16 < low < -0.11 and -0.08 < high < -0.03
    assert asr.main([str(write(tmp_path, ours[:-1])), "--compare", other]) == 2
    assert "lacks 1 item(s) of" in capsys.readouterr().err
    theirs[0]["transcription"] = "other words"
    assert asr.main([str(write(tmp_path, ours)), "--compare", str(write(tmp_path, theirs, "s.jsonl"))]) == 2
    assert "has another transcription" in capsys.readouterr().err


def test_reference_counts_what_was_never_transcribed(tmp_path, capsys):
    manifest = [{"audio_filepath": f"{n}.wav", "transcription": "two words"} for n in range(4)]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    result = write(tmp_path, [{**record, "response": "two words"} for record in manifest[1:]])
    assert asr.main([str(result)]) == 0
    assert asr.main([str(result), "--reference", str(tmp_path / "m.json")]) == 0
    assert "missing: 0.wav" in capsys.readouterr().out
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    assert (scores["wer"], scores["deletions"], scores["errors"], scores["missing"]) == (0.25, 2, 1, ["0.wav"])


def test_command_names_the_worst(tmp_path):
    records = [
        {"audio_id": f"u{n}", "transcription": "red green blue black", "response": "red green blue black"}
        for n in range(12)
    ]
    records[7]["response"] = "red green"
    records[3]["response"] = "red green blue"
    path = write(tmp_path, records)
    done = subprocess.run([sys.executable, str(SCRIPT), path.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WER" in done.stdout and "6.2 %" in done.stdout
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    assert scores["wer"] == 3 / 48 and scores["deletions"] == 3
    assert [u["key"] for u in scores["worst"]] == ["u7", "u3"]
    assert "u7: 50.0 %\n  said:  red green blue black\n  heard: red green\n" in done.stdout


def test_only_ten_of_the_worst(tmp_path):
    records = [{"audio_id": n, "transcription": "a b c d", "response": " ".join("abcd"[: n % 4])} for n in range(20)]
    assert asr.main([str(write(tmp_path, records))]) == 0
    worst = json.loads((tmp_path / "r.jsonl.scores.json").read_text())["worst"]
    assert [u["words"]["deletions"] for u in worst] == [4] * 5 + [3] * 5


def test_what_cannot_be_scored_is_named(tmp_path, capsys):
    assert asr.main([str(write(tmp_path, [{"transcription": "a"}]))]) == 2
    assert "no item has a field 'response'" in capsys.readouterr().err
    assert asr.main([str(write(tmp_path, [{"response": "a"}]))]) == 2
    assert "item 1: no field 'transcription'" in capsys.readouterr().err
    assert asr.main([str(write(tmp_path, []))]) == 2
    assert "no items" in capsys.readouterr().err
    path = write(tmp_path, [{"transcription": "a", "response": "a"}])
    path.write_text(path.read_text() + "oops\n")
    assert asr.main([str(path)]) == 1
    assert "line 2" in capsys.readouterr().err
    assert asr.main([str(write(tmp_path, [{"audio_id": "a", "transcription": "a", "response": "a"}] * 2))]) == 2
    assert "more than once: a" in capsys.readouterr().err


def test_the_published_rule_normalises_little(tmp_path, capsys):
    path = write(
        tmp_path,
        [
            {"audio_id": "a", "transcription": "HELLO MISTER SMITH", "response": "hello, Mr. Smith"},
            {"audio_id": "b", "transcription": "\u4f60\u597d", "response": "\u4f60 \u4e0d"},
            {"audio_id": "c", "transcription": "good bye", "response": "good bye", "error": "no audio"},
        ],
    )
    assert asr.main([str(path)]) == 0
    table = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:9]]
    table = [[cell.strip() for cell in line if cell.strip()] for line in table]
    assert table[0] == ["WER", "CER", "published rule"] and table[2][::3] == ["rate", "71.4 %"]
    assert table[-1][0] == "of" and table[-1][-1] == "7 tokens"
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text())
    assert scores["published"] == 5 / 7
    assert [scores[f"published_{kind}"] for kind in ("substitutions", "deletions", "insertions")] == [3, 2, 0]


JAPANESE = [("がっこう へ いく", "かっこうへ いく"), ("みず", "みず")]


def records_of(pairs):
    return [{"audio_id": n, "transcription": said, "response": heard} for n, (said, heard) in enumerate(pairs)]


def test_without_spaces_errors_are_counted_by_characters_alone(tmp_path, capsys):
    path, other = (
        write(tmp_path, records_of(JAPANESE)),
        write(tmp_path, records_of([("がっこう へ いく", "が"), JAPANESE[1]]), "s"),
    )
    assert asr.main([str(path), "--compare", str(other)]) == 0
    scores = json.loads((tmp_path / "r.jsonl.scores.json").read_text(encoding="utf-8"))
    assert [scores[name] for name in ("normalisation", "language", "wer", "wer_interval", "words", "deletions")] == [
        *("unspaced", None, None, None, None, None)
    ]
    assert (scores["cer"], scores["characters"], scores["worst"][0]["words"]) == (1 / 9, 9, None)
    assert (scores["comparison"]["cer"], scores["comparison"]["cer_difference"]) == (6 / 9, -5 / 9)
    assert scores["comparison"].keys() == {"with", "cer", "cer_difference", "cer_difference_interval"}
    printed = capsys.readouterr().out
    assert "no word error rate: the script has no spaces to tell words by" in printed and "WER" not in printed
    assert "0: 14.3 %\n  said:  がっこうへいく\n  heard: かっこうへいく" in printed


@pytest.mark.parametrize(
    ("said", "heard", "language", "normalisation", "wer"),
    [
        ("schön ist es da", "schon ist es da", None, "basic", 0.25),
        ("schon ist es da", "schön ist es da", None, "english", 0),  # nothing tells that it is German
        ("schon ist es da", "schön ist es da", "de", "basic", 0.25),
        ("it is schön", "it is schon", "en", "english", 0),
        ("the colour", "the color", None, "english", 0),
        ("the colour", "the color", "fr", "basic", 0.5),
        ("йод", "иод", None, "basic", 1),
        ("ni hao", "ni hau", "zh-CN", "unspaced", None),
    ],
)
def test_the_language_is_told_by_a_flag_or_by_the_truth(said, heard, language, normalisation, wer, tmp_path, capsys):
    (tmp_path / "hypotheses").write_text(f"a {heard}\n", encoding="utf-8")  # Kaldi's
    (tmp_path / "text").write_text(f"a {said}\n", encoding="utf-8")
    flags = ["--reference", tmp_path / "text", *(["--language", language] if language else [])]
    assert asr.main([str(tmp_path / "hypotheses"), *map(str, flags)]) == 0
    scores = json.loads((tmp_path / "hypotheses.scores.json").read_text(encoding="utf-8"))
    assert (scores["normalisation"], scores["wer"]) == (normalisation, wer)
    told = f"--language {scores['language']}" if language else "by the truths; --language CODE says otherwise"
    assert f"({told})" in capsys.readouterr().out

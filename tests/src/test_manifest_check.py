import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import PreTrainedTokenizerFast

from src import manifest_check
from src.audio import AudioFacts
from src.manifest import ManifestError, write_manifest
from src.manifest_check import (
    Limits,
    ManifestReport,
    check_manifest,
    main,
    problems_of_audio,
    problems_of_text,
    summarise,
)
from src.prompts import SYSTEM_PROMPT, SYSTEM_PROMPTS
from tests.conftest import in_time
from tests.src.test_manifest import ENTRY, damaged_manifests

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def tone(seconds, rate=16000):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def entry(name, seconds=1.0, **changes):
    return ENTRY | {"audio_id": name, "audio_filepath": f"{name}.wav", "duration": seconds} | changes


@pytest.fixture
def folder(tmp_path):
    """Three good clips of 1, 2 and 3 s: a, b and c."""
    for name, seconds in (("a", 1), ("b", 2), ("c", 3)):
        soundfile.write(tmp_path / f"{name}.wav", tone(seconds), 16000)
    return tmp_path


GOOD = [
    entry("a", attributes={"gender": "female"}),
    entry("b", 2),
    entry("c", 3, attributes={"gender": "male", "age": 30}),
]
NOTHING = ManifestReport(0, [], [], {}, [], [])


def check(folder, entries, limits=Limits(), **settings):  # noqa: B008 - it is frozen
    write_manifest(folder / "m.jsonl", entries)
    return check_manifest(folder / "m.jsonl", limits, **settings)


def problems(folder, entries, **settings):
    return [str(problem) for problem in check(folder, entries, **settings).problems]


def test_a_good_manifest_has_no_problems_and_is_summarised(folder):
    report = check(folder, GOOD)
    assert report.problems == [] and sorted(report.seconds.values()) == [1, 2, 3]
    text = summarise(report, Limits())
    assert "3 entries, 3 of them complete, 3 readable files" in text
    assert "0.00 hours; toy 0.00" in text and "gender: female 1, male 1" in text and "age: 30 1" in text
    rows = [line.split() for line in text.split("\n") if line.endswith("#")]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (low, high, "1") for low, high in (("1.00", "1.20"), ("2.00", "2.20"), ("2.80", "3.00"))
    ]


def test_every_fault_is_found_in_one_pass(folder):
    soundfile.write(folder / "short.wav", tone(0.05), 16000)
    soundfile.write(folder / "long.wav", tone(31), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    (folder / "broken.wav").write_text("no sound")
    whole = (folder / "b.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    faulty = [
        (entry("a"), None),
        (
            {key: value for key, value in entry("b", 2).items() if key not in ("input", "dataset")},
            "missing input, dataset; ",
        ),
        (entry("c", 3, target=7), "target is 7; expected a string"),
        (entry("gone"), "gone.wav: no such audio file"),
        (entry("broken"), "broken.wav: not readable as audio"),
        (entry("silent"), "silent.wav: is silent"),
        (entry("nan"), "nan.wav: holds NaN"),
        (entry("short", 0.05), "lasts 0.050 s; clips must last at least 0.1 s"),
        (entry("long", 31), "lasts 31.00 s; what comes after 30 s is not heard"),
        (entry("cut", 0.9995), "the file is cut: 1.00 s are left, the header promises 1.00 more"),
        (entry("d", 1.2, audio_filepath="a.wav"), "duration is 1.20 s, but the file lasts 1.00 s"),
        (entry("e", 1.05, audio_filepath="a.wav"), None),
        (entry("f", target=" ", audio_filepath="a.wav"), "target is empty"),
        (entry("g", transcription="", audio_filepath="a.wav"), "transcription is empty"),
        (entry("h", transcription="", audio_filepath="a.wav", transcribed=False), None),
        (entry("a"), "this audio_id is used in line 1 as well"),
        ("text", "expected an object with keys, found str"),
    ]
    found = problems(folder, [value for value, _ in faulty])
    wanted = [
        (f"line {number}, {value['audio_id'] if value != 'text' else '(no id)'}: ", message)
        for number, (value, message) in enumerate(faulty, 1)
        if message
    ]
    assert len(found) == len(wanted)
    for line, (start, message) in zip(found, wanted, strict=True):
        assert line.startswith(start) and message in line


@pytest.mark.parametrize(
    ("facts", "told", "found"),
    [
        (AudioFacts(2.0, 0.0), 2.09, []),
        (AudioFacts(2.0, 0.0), 2.11, ["duration is 2.11 s, but the file lasts 2.00 s"]),
        (AudioFacts(2.0, 0.0), "2", []),  # of another type: said elsewhere
        (AudioFacts(2.0, 0.02), 2.0, []),
        (AudioFacts(2.0, 0.03), 2.0, ["the file is cut: 2.00 s are left, the header promises 0.03 more"]),
        (AudioFacts(30.0, 0.0, 29.9), 30.0, []),
        (AudioFacts(30.0, 0.0, 30.0), 30.0, ["is silent for its first 30.00 s, and 30 s are heard"]),
    ],
)
def test_files_against_what_is_told_of_them(facts, told, found):
    assert list(problems_of_audio(facts, told, 30)) == found


@pytest.mark.parametrize(
    ("prompt", "answer", "found"),
    [
        (10, 6, []),
        (10, 7, ["prompt and answer have 10 + 7 tokens; the answer is cut at 16"]),
        (16, 1, ["the prompt has 16 tokens, which leaves no room for an answer in 16"]),
    ],
)
def test_text_lengths(prompt, answer, found):
    assert list(problems_of_text(prompt, answer, 16)) == found


def test_what_nobody_meant_to_write_is_a_problem(folder):
    (found,) = problems(folder, [entry("a", target="so\ufffd")])
    assert "target holds U+FFFD" in found


def test_one_entry_may_have_several_problems(folder):
    found = problems(folder, [entry("a", "long", target="", audio_filepath="gone.wav")])
    assert len(found) == 3
    assert "duration is 'long'" in found[0] and "target is empty" in found[1] and "no such audio file" in found[2]


def test_lines_that_are_not_json_do_not_end_the_check(folder):
    write_manifest(folder / "m.jsonl", GOOD)
    lines = (folder / "m.jsonl").read_text().split("\n")
    (folder / "m.jsonl").write_text("\n".join([lines[0], "{oops", lines[1].replace("b.wav", "gone.wav")]))
    found = [str(problem) for problem in check_manifest(folder / "m.jsonl", Limits()).problems]
    assert len(found) == 2 and found[0].startswith("line 2, (no id): not JSON") and found[1].startswith("line 3, b: ")


def test_text_is_counted_against_the_limit(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada")
    long = entry("b", 2, target="hello " * 400)
    report = check(folder, [entry("a"), long], tokenizer=tokenizer)
    prompt, total = report.text_tokens[0] - 2, report.text_tokens[1]
    assert report.problems == [] and total > 400
    found = problems(folder, [entry("a"), long], limits=Limits(max_length=200), tokenizer=tokenizer)
    assert len(found) == 1 and found[0].startswith("line 2, b: prompt and answer have ") and "cut at 200" in found[0]
    found = problems(folder, [entry("a")], limits=Limits(max_length=10), tokenizer=tokenizer)
    assert len(found) == 1 and "leaves no room for an answer in 10" in found[0] and prompt > 10
    assert f"longest {total}; 1 over the limit of 200" in summarise(report, Limits(max_length=200))


def test_the_system_prompt_is_counted(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada")
    short, long = (
        check(folder, [entry("a")], Limits(system_prompt=text), tokenizer=tokenizer).text_tokens[0]
        for text in (SYSTEM_PROMPT, f"{SYSTEM_PROMPT} one ten")
    )
    assert long == short + len(tokenizer(" one ten")["input_ids"])


def test_a_system_prompt_is_named_or_given(folder, monkeypatch):
    write_manifest(folder / "m.json", GOOD)
    limits = []
    monkeypatch.setattr(manifest_check, "check_manifest", lambda path, limit, *_: limits.append(limit) or NOTHING)
    for flags in ([], ["--system_prompt", "long"], ["--system_prompt", "Listen."]):
        assert main(["check", str(folder / "m.json"), *flags]) == 0
    assert [limit.system_prompt for limit in limits] == [SYSTEM_PROMPT, SYSTEM_PROMPTS["long"], "Listen."]


def test_preference_pairs(folder):
    pair = {"target": "one cat", "chosen": "one cat", "rejected": "two cats"}
    chosen = {key: value for key, value in entry("b", 2, chosen="a", rejected="b").items() if key != "target"}
    faulty = [
        (entry("a", **pair), None),
        (chosen, None),
        (entry("a", **pair | {"audio_id": "c", "rejected": "one cat "}), "rejected is the target: there is nothing"),
        (entry("a", **pair | {"audio_id": "d", "rejected": " "}), "rejected is empty"),
        (entry("a", audio_id="e"), "missing rejected: a preference pair needs a worse answer"),
        (entry("a", **pair | {"audio_id": "f", "chosen": "one dog"}), "chosen and target differ"),
        (entry("a", **pair | {"audio_id": "g", "rejected": 7}), "rejected is 7; expected a string"),
        (chosen | {"audio_id": "h", "chosen": ""}, "target is empty"),
        (entry("a", **pair | {"audio_id": "i", "rejected": "one cat", "duration": 0}), "duration is 0; expected sec"),
    ]
    found = problems(folder, [value for value, _ in faulty])
    assert found.pop() == "line 9, i: rejected is the target: there is nothing to prefer"  # all in one pass
    wanted = [(number, value["audio_id"], text) for number, (value, text) in enumerate(faulty, 1) if text]
    for line, (number, name, text) in zip(found, wanted, strict=True):
        assert line.startswith(f"line {number}, {name}: {text}")
    assert problems(folder, [entry("a"), entry("b", 2)]) == []  # no pair among them: nothing is missing


def test_rejected_answers_are_counted_against_the_limit(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada")
    pairs = [entry("a", target="hello", rejected="hello " * 400), entry("b", 2, target="ten one", rejected="one")]
    report = check(folder, pairs, tokenizer=tokenizer)
    (good, bad), (longer, shorter) = report.pair_tokens
    assert report.problems == [] and bad > 400 > good and longer > shorter
    text = summarise(report, Limits())
    assert "2 preference pairs; tokens of good answers: mean " in text and "in 50%, shorter in 50%" in text
    found = problems(folder, pairs, limits=Limits(max_length=200), tokenizer=tokenizer)
    assert len(found) == 1 and found[0].startswith("line 1, a: prompt and rejected answer have ")
    assert len(problems(folder, pairs[:1], limits=Limits(max_length=10), tokenizer=tokenizer)) == 1
    assert "2 preference pairs\n" in summarise(check(folder, pairs), Limits()) + "\n"


def test_the_command(folder):
    """As a user calls it, from another folder."""
    write_manifest(folder / "m.json", GOOD)
    command = [sys.executable, "-m", "src.manifest", "check", str(folder / "m.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 problem(s) in 0 of 3 entries" in done.stdout
    assert (folder / "m.durations.png").read_bytes().startswith(b"\x89PNG")


def test_the_exit_status_and_the_figure(folder, capsys):
    write_manifest(folder / "m.json", [*GOOD, entry("gone")])
    assert main(["check", str(folder / "m.json"), "--figure", str(folder / "f.png"), "--max_seconds", "2.5"]) == 1
    told = capsys.readouterr().out
    assert "line 5, entry 4, gone: " in told and "line 4, entry 3, c: lasts 3.00 s" in told
    assert "2 problem(s) in 2 of 4 entries" in told and (folder / "f.png").exists()
    assert main(["check", str(folder / "m.json"), "--figure", str(folder / "none" / "f.png")]) == 1
    assert (folder / "none" / "f.png").exists()
    assert main(["check", str(folder / "none.json")]) == 2
    assert "none.json cannot be read: No such file" in capsys.readouterr().err
    assert main(["check", str(folder / "m.json"), "--llm_path", "./none"]) == 2
    assert "the LLM: no folder './none'" in capsys.readouterr().err


def test_names_in_any_alphabet_are_printed(folder, capsys):
    write_manifest(folder / "m.jsonl", [entry("a")])
    with (folder / "m.jsonl").open("a") as file:
        file.write(json.dumps(entry("\ud800", audio_filepath="\ud800.wav", attributes={"\udfff": "\ud800"})) + "\n")
    assert main(["check", str(folder / "m.jsonl")]) == 1
    assert "\\ud800.wav: no such audio file" in capsys.readouterr().out


def test_300_damaged_manifests_are_checked(tmp_path):
    """Never a hang; what is wrong is told by path or by line, and a summary comes of whatever is left."""
    for number in range(10):
        soundfile.write(tmp_path / f"a{number}.wav", tone(0.2), 16000)
    clean = 0
    for path in damaged_manifests(tmp_path):
        try:
            report = in_time(20, path.name, check_manifest, path, Limits(), jobs=2)
        except ManifestError as error:
            assert str(path) in str(error)
            continue
        assert all(str(problem).startswith("line ") for problem in report.problems)
        assert f"{report.entries} entries" in summarise(report, Limits())
        clean += not report.problems
    assert clean < 60  # damage to what is not checked, such as the words

"""Files and flags as people have them, through every script: scored, or refused with what was found and where."""

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

import app
import ask
import inference_stage2_mmau
import inference_stage2_mmsu
import serve
import train
from asr import evaluate as asr
from data_prep import synthesize_qa, vctk
from evaluation import report
from evaluation.benchmarks import MMAU, MMSU
from evaluation.runner import Parts
from evaluation.scoring import run_scorer
from src import manifest_check
from src.errors import reports_user_errors
from src.flag_types import text_flag
from src.generation_options import GenerationOptions
from src.inference_flags import OptionError
from tests.conftest import GOLDEN
from tests.evaluation.small_runs import MODEL, ROOT, question, scores_of, write_lines
from voicebench import evaluate as voicebench
from voicebench import judge

FAULTS = ROOT / "tests" / "faults"
SCORERS = {
    "mmau": lambda argv: run_scorer(MMAU, "", argv),
    "mmsu": lambda argv: run_scorer(MMSU, "", argv),
    "asr": asr.main,
}
REFUSED_BY_SCORERS = {
    "mmau_27.json": "mmau_27.json item 1: choices must be at most 26, one a letter, found 30",
    "mmau_none_choices.json": "item 1: choices must be a list of texts, or null among them, found None",
    "mmau_string_choices.json": "item 1: choices must be a list of texts, or null among them, found \"['Dog', ",
    "mmsu_int_gt.jsonl": "mmsu_int_gt.jsonl item 1: answer_gt must be a text, found 1",
    "mmsu_pretty.jsonl": "mmsu_pretty.jsonl line 2: not JSON: Extra data at column 7, found ': \"1\",'",
    "asr_null_ref.jsonl": "asr_null_ref.jsonl item a: transcription must be a text, found None",
}
REFUSED_BY_INFERENCE = {
    "mmau_27.json": "mmau_27.json line 1, entry 1: choices must be at most 26",
    "mmau_none_choices.json": "line 1, entry 1: choices must be a list of texts",
    "mmau_string_choices.json": "line 1, entry 1: choices must be a list of texts",
    "mmau_surrogate.json": "line 1, entry 1: task holds half of a surrogate pair, found 'so\\ud83dund'",
    "mmsu_int_gt.jsonl": "mmsu_int_gt.jsonl line 1: answer_gt must be str, found 1",
    "mmsu_pretty.jsonl": "mmsu_pretty.jsonl line 1: not JSON",
    "latin1.jsonl": "latin1.jsonl line 1: not UTF-8 text: invalid continuation byte, found byte 0xe9",
    "surr_extra.jsonl": "surr_extra.jsonl line 2: note holds half of a surrogate pair, found 'half \\ud83d'",
}


@pytest.fixture
def copy(tmp_path):
    return lambda name: Path(shutil.copy(FAULTS / name, tmp_path))


@pytest.fixture
def no_model(monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Parts, "load", load)


def infer(path, output, *flags):
    script = inference_stage2_mmsu if path.suffix == ".jsonl" else inference_stage2_mmau
    return script.main([*MODEL, "--input", str(path), "--output", str(output), *map(str, flags)])


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED_BY_SCORERS)
def test_scorers_name_the_item_the_field_and_what_was_found(name, copy, capsys):
    assert SCORERS[name.partition("_")[0]]([str(copy(name))]) == 2
    assert REFUSED_BY_SCORERS[name] in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED_BY_INFERENCE)
def test_a_benchmark_that_cannot_be_asked_is_refused_before_the_model_loads(name, copy, no_model, tmp_path, capsys):
    assert infer(copy(name), tmp_path / "out") == 2
    assert REFUSED_BY_INFERENCE[name] in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_other_encodings_are_named(encoding, no_model, tmp_path, capsys):
    path = tmp_path / "mmsu.jsonl"
    bom = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((bom + json.dumps(question(1, question="café?"), ensure_ascii=False)).encode(encoding))
    assert infer(path, tmp_path / "out") == 2
    assert "mmsu.jsonl line 1: not UTF-8 text" in capsys.readouterr().err


def test_lines_may_end_as_on_an_old_macintosh(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes("\r".join(json.dumps(question(n, response="A. one")) for n in range(3)).encode())
    assert SCORERS["mmsu"]([str(path)]) == 0
    assert scores_of(path)["levels"]["total"]["total"]["n"] == 3


def test_half_a_surrogate_pair_in_a_result_is_scored_and_escaped(copy):
    path = copy("mmau_surrogate.json")
    assert SCORERS["mmau"]([str(path)]) == 0
    assert scores_of(path)["levels"]["task"]["so\ud83dund"]["strict"] == 1
    path = copy("asr_surrogate.jsonl")
    assert SCORERS["asr"]([str(path)]) == 0
    assert scores_of(path)["worst"][0]["hypothesis"].startswith("hello")


@pytest.mark.parametrize(
    ("name", "normalisation", "wer", "cer"),
    [("asr_ja.jsonl", "unspaced", None, 0.5), ("asr_spelling.jsonl", "english", 0, 0)],
)
def test_transcripts_are_normalised_by_their_language(name, normalisation, wer, cer, copy):
    path = copy(name)
    assert SCORERS["asr"]([str(path)]) == 0
    scores = scores_of(path)
    assert (scores["normalisation"], scores["wer"], scores["cer"]) == (normalisation, wer, cer)


def test_an_answer_that_is_none_of_the_choices_is_named(copy, no_model, tmp_path, capsys):
    path = copy("mmau_space_answer.json")
    assert SCORERS["mmau"]([str(path)]) == 0
    told = capsys.readouterr().out
    assert "item 1: answer 'Dog ' is none of the choices ['Dog', 'Cat', 'Cow', 'Pig']; taken for 'Dog'" in told
    assert len(scores_of(path)["answers_not_offered"]) == 3
    with pytest.raises(AssertionError, match="the model was loaded"):
        infer(path, tmp_path / "out")
    assert "item 2: answer 'dog' is none of the choices" in capsys.readouterr().err


def test_scores_are_written_whatever_standard_output_can_show(copy):
    path = copy("asr_ascii.jsonl")
    run = subprocess.run(
        [sys.executable, ROOT / "asr" / "evaluate.py", path], capture_output=True, text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert "said:  caf? na?ve??" in run.stdout and scores_of(path)["utterances"] == 1


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("which", ["train", "eval"])
def test_texts_over_the_limit_are_told_before_training_starts(stage, which, copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "build_model", lambda *_: pytest.fail("the model was loaded"))
    copy("../../examples/clip.wav")
    long = copy("longprompt.json")
    good = tmp_path / "good.json"
    good.write_text(json.dumps(json.loads(long.read_text())[:1]))
    manifests = {"train": good, "eval": good} | {which: long}
    flags = ["--stage", stage, "--llm_path", GOLDEN / "llada", "--output_dir", tmp_path / "out"]
    flags += [
        "--train_dataset_path",
        manifests["train"],
        "--eval_dataset_path",
        manifests["eval"],
        "--eval_strategy",
        "epoch",
    ]
    flags += ["--stage1_checkpoint", tmp_path] if stage == 2 else []
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, flags)])
    assert reports_user_errors(train.main)() == 2
    error = capsys.readouterr().err
    assert f"{long}: texts of 1 of 2 entries are over --max_length 2048 tokens, and --max_bad_fraction 0.001" in error
    assert "\nb: the prompt has " in error and "which leaves no room for an answer in 2048" in error


def test_the_manifest_check_tells_of_texts_over_the_limit(copy, capsys):
    copy("../../examples/clip.wav")
    assert manifest_check.main(["check", str(copy("longprompt.json")), "--llm_path", str(GOLDEN / "llada")]) == 1
    assert "line 1, entry 2, b: the prompt has 15043 tokens, which leaves no room for" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [["A"], {"text": "A"}, []])
def test_an_answer_that_is_no_text_is_named(answer, tmp_path, capsys):
    path = write_lines(tmp_path / "mmsu.jsonl", [question(1, response="A"), question(2, response=answer)])
    assert SCORERS["mmsu"]([str(path)]) == 2
    assert f"mmsu.jsonl item 2: response must be a text, found {answer!r}" in capsys.readouterr().err
    path = write_lines(tmp_path / "asr.jsonl", [{"audio_id": "a", "transcription": "x", "response": answer}])
    assert SCORERS["asr"]([str(path)]) == 2
    assert "asr.jsonl item 1: response must be a text" in capsys.readouterr().err


@pytest.mark.parametrize("as_list", [True, False])
def test_a_key_that_is_there_twice_with_two_values_is_named(as_list, no_model, tmp_path, capsys):
    line = json.dumps(question(1, response="A"))
    path = tmp_path / "mmsu.jsonl"
    twice = line[:-1] + ', "answer_gt": "two"}'
    path.write_text(f"[{line},\n{twice}]" if as_list else f"{line}\n{twice}\n")
    message = "the key 'answer_gt' is there twice, with 'one' and 'two'"
    for read in (lambda: SCORERS["mmsu"]([str(path)]), lambda: infer(path, tmp_path / "out")):
        assert read() in (1, 2)
        told = capsys.readouterr().err
        assert message in told and "mmsu.jsonl " in told
    same = line[:-1] + ', "answer_gt": "one"}'
    path.write_text(f"{same}\n")
    assert SCORERS["mmsu"]([str(path)]) == 0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("caf\ufffd?", "holds U+FFFD, which stands for bytes that were no UTF-8"),
        ("Why?<|eot_id|>", "holds <|eot_id|>, a control token of the model"),
        ("Why\x00?", "holds the control character U+0000"),
    ],
)
def test_a_question_that_nobody_meant_is_told(text, fault, no_model, tmp_path, capsys):
    path = write_lines(tmp_path / "mmsu.jsonl", [question(1), question(2, question=text)])
    with pytest.raises(AssertionError, match="the model was loaded"):
        infer(path, tmp_path / "out")
    error = capsys.readouterr().err
    assert f"warning: {path} item 2: what is asked {fault}" in error and "item 1:" not in error
    with pytest.raises(ArgumentTypeError, match=re.escape(fault)):
        text_flag(text)
    clip = app.load_clip(FAULTS / "k_gsm.wav", app.make_parser().parse_args([]), 30.0)
    with pytest.raises(OptionError, match=re.escape(f"the question {fault}")):
        next(app.answer(None, clip, text, GenerationOptions()))


# -- outputs --------------------------------------------------------------------------------------------------------


def linked(path, how):
    """Another name of the same file."""
    other = path.with_name(f"{how}{path.suffix}")
    if how == "hard":
        other.hardlink_to(path)
    elif how == "soft":
        other.symlink_to(path)
    elif how == "folder":
        (path.parent / "folder").symlink_to(path.parent)
        return path.parent / "folder" / path.name
    return path if how == "same" else other


@pytest.mark.parametrize("how", ["same", "hard", "soft", "folder"])
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_input_is_never_written(how, overwrite, no_model, tmp_path, capsys):
    path = write_lines(tmp_path / "mmsu.jsonl", [question(n) for n in range(2)])
    before = path.read_bytes()
    assert infer(path, linked(path, how), *overwrite) == 2
    assert "would be overwritten, and it is an input" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_neither_is_a_clip_nor_a_file_that_holds_no_answers(no_model, monkeypatch, tmp_path, capsys):
    path = write_lines(tmp_path / "mmsu.jsonl", [question(n) for n in range(2)])
    (tmp_path / "clip0.wav").write_bytes(b"sound")
    assert infer(path, tmp_path / "clip0.wav", "--overwrite") == 2
    assert "it is an input" in capsys.readouterr().err
    monkeypatch.setattr(Parts, "load", lambda *_, **__: type("Model", (), {})())
    (tmp_path / "notes.jsonl").write_text("{}\n")
    assert infer(path, tmp_path / "notes.jsonl", "--overwrite") == 2
    assert "notes.jsonl is not overwritten: no notes.jsonl.meta.json beside it" in capsys.readouterr().err
    assert (tmp_path / "notes.jsonl").read_text() == "{}\n"


def test_other_scripts_do_not_write_their_inputs_either(tmp_path, capsys):
    manifest = tmp_path / "m.json"
    manifest.write_text(json.dumps([]))
    scores = tmp_path / "report.json"
    scores.write_text("{}")
    result = write_lines(tmp_path / "m.jsonl", [question(1, response="A", prompt="q", reference="A")])
    reference = write_lines(tmp_path / "m.jsonl.scores.json", [question(1)])
    rubric = tmp_path / "m.jsonl.judge.jsonl"
    rubric.write_text("{prompt} {response}")
    endpoint = ["--base_url", "http://localhost:1/v1", "--model", "m"]
    runs = [
        (synthesize_qa.main, [manifest, "--output", manifest, *endpoint], manifest),
        (synthesize_qa.main, [tmp_path / "none.json", "--pool", manifest, "--output", manifest, *endpoint], manifest),
        (manifest_check.main, ["check", result, "--figure", result], result),
        (report.main, [scores, "--output", tmp_path], scores),
        (SCORERS["mmsu"], [result, "--reference", reference], reference),
        (SCORERS["mmsu"], [result, "--compare", reference], reference),
        (asr.main, [result, "--reference", reference], reference),
        (voicebench.main, [result, "--evaluator", "mcq", "--reference", reference], reference),
        (judge.main, [result, "--evaluator", "open", "--rubric", rubric, "--overwrite", *endpoint], rubric),
    ]
    for main, argv, kept in runs:
        before = kept.read_bytes()
        assert main([str(argument) for argument in argv]) == 2, argv
        assert "it is an input" in capsys.readouterr().err, argv
        assert kept.read_bytes() == before


def test_training_does_not_write_into_a_model_it_starts_from(tmp_path, monkeypatch, capsys):
    flags = ["--stage", "1", "--train_dataset_path", "m.json", "--llm_path", tmp_path, "--output_dir", tmp_path]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, flags)])
    with pytest.raises(Exception, match="would be overwritten, and it is an input"):
        train.main()


# -- flags ----------------------------------------------------------------------------------------------------------


def start_training(flags):
    """train.py with these flags on top of what it needs."""
    sys.argv = ["train.py", "--stage", "1", "--train_dataset_path", "m.json", "--output_dir", "out", *flags]
    return reports_user_errors(train.main)()


MAINS = {
    "ask": ask.main, "serve": serve.main, "app": app.main, "vctk": vctk.main, "check": manifest_check.main,
    "train": start_training, "mmsu": inference_stage2_mmsu.main, "synthesize_qa": synthesize_qa.main, "asr": asr.main,
}  # fmt: skip
CLIP = str(ROOT / "examples" / "clip.wav")
QUESTIONS = [*MODEL, "--input", "q.jsonl", "--output", "o.jsonl"]
SYNTHESIS = ["m.json", "--output", "o.json", "--base_url", "http://localhost:1/v1", "--model", "m"]


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("ask", [CLIP, " "], "the question, which comes last: ' ' is empty; expected a text"),
        ("ask", [CLIP, "caf\udce9"], r"'caf\udce9' is no UTF-8 text"),
        ("ask", [CLIP, "Why?", "--temperature", "nan"], "--temperature: nan is no finite number"),
        ("ask", [CLIP, "Why?", "--seed", str(2**70)], f"seed is {2**70}; expected a whole number of 64 bits"),
        ("ask", [CLIP, "Why?", "--steps", "0"], "steps is 0; it must be at least 1"),
        ("ask", [CLIP, "Why?<|eot_id|>"], "holds <|eot_id|>, a control token of the model"),
        ("serve", ["--port", "99999"], "99999 is out of bounds; it must be at least 0 and at most 65535"),
        ("serve", ["--max_wait_ms", "nan"], "nan is no finite number"),
        ("serve", ["--host", ""], "--host: '' is empty; expected a text"),
        ("serve", ["--served_model_name", ""], "--served_model_name: '' is empty; expected a text"),
        ("serve", ["--max_queue", "-1"], "max_queue is -1; it must be above 0"),
        ("app", ["--port", "-1"], "-1 is out of bounds; it must be at least 0"),
        ("app", ["--host", " "], "--host: ' ' is empty; expected a text"),
        ("vctk", ["root", "out.json", "--jobs", "-1"], "-1 is out of bounds; it must be at least 1"),
        ("vctk", ["root", "out.json", "--max_seconds", "0"], "0 is out of bounds; it must be more than"),
        ("vctk", ["root", "out.json", "--dev_fraction", "1.5"], "1.5 is out of bounds; it must be from 0 to 1"),
        ("check", ["check", "m.json", "--jobs", "0"], "0 is out of bounds; it must be at least 1"),
        ("check", ["check", "m.json", "--max_seconds", "inf"], "inf is no finite number"),
        ("train", ["--learning_rate", "nan"], "--learning_rate is nan; expected a finite number"),
        ("train", ["--max_seconds", "0"], "--max_seconds is 0.0; expected more than 0"),
        ("train", ["--learning_rate", "-1"], "--learning_rate is -1.0; expected 0 or more"),
        ("train", ["--num_train_epochs", "0"], "--num_train_epochs is 0.0; expected more than 0"),
        ("train", ["--per_device_train_batch_size", "0"], "--per_device_train_batch_size is 0; expected 1 or more"),
        ("train", ["--gradient_accumulation_steps", "0"], "--gradient_accumulation_steps is 0; expected 1 or more"),
        ("train", ["--dataloader_num_workers", "-1"], "--dataloader_num_workers is -1; expected 0 or more"),
        ("train", ["--save_steps", "0"], "--save_steps is 0.0; expected more than 0"),
        ("train", ["--max_steps", "-5"], "--max_steps is -5; expected -1 or more"),
        ("train", ["--adam_beta1", "2"], "--adam_beta1 is 2.0; expected 0 or more, and less than 1"),
        ("train", ["--seed", "-1"], "--seed is -1; expected 0 or more, and less than 4294967296"),
        ("train", ["--train_dataset_path", ""], "--train_dataset_path is empty; expected a manifest"),
        ("mmsu", [*QUESTIONS, "--max_error_rate", "nan"], "nan is no finite number"),
        ("synthesize_qa", [*SYNTHESIS, "--tries", "0"], "--tries: 0 is out of bounds; it must be at least 1"),
        ("synthesize_qa", [*SYNTHESIS, "--temperature", "nan"], "--temperature: nan is no finite number"),
        (
            "asr",
            ["none.jsonl", "--language", "English"],
            "'English' is no language's code; expected one such as en, de or ja",
        ),
    ],
)
def test_a_mistyped_flag_is_a_sentence_and_status_2(script, flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *flags])
    try:
        status = MAINS[script](flags)
    except SystemExit as ended:  # argparse's
        status = ended.code
    error = capsys.readouterr().err.rstrip().rpartition("\n")[2]
    assert status == 2 and error.startswith((f"{script}.py", "python -m src.manifest check")) and message in error


def test_an_argument_in_latin_1_is_a_sentence():
    argv = [os.fsencode(word) for word in (sys.executable, "ask.py", CLIP, "caf\udce9")]
    run = subprocess.run(argv, capture_output=True, cwd=ROOT, env=os.environ | {"PYTHONUTF8": "1"})
    assert run.returncode == 2 and rb"'caf\udce9' is no UTF-8 text" in run.stderr and b"Traceback" not in run.stderr

import json
import shutil

import pytest

import inference_stage1_asr
from asr import evaluate
from evaluation.runner import Parts
from tests.conftest import GOLDEN, GOLDEN2
from tests.evaluation.small_runs import MODEL, EchoModel, lines, write_lines


@pytest.fixture
def echo(monkeypatch):
    model = EchoModel()
    model.reply = lambda waveform, instruction: instruction
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return model


@pytest.fixture
def folder(tmp_path):
    for n in range(2):
        shutil.copy(GOLDEN / f"clip{n}.wav", tmp_path)
    (tmp_path / "wav.scp").write_text(f"u0 clip0.wav\nu1 {tmp_path}/clip1.wav\nu2 gone.wav\n")
    return tmp_path


def start(folder, *flags, model=MODEL):
    return inference_stage1_asr.main([*model, "--max_error_rate", "0.5", *map(str, flags)])


def test_kaldi_in_kaldi_out(folder, echo, capsys):
    flags = ["--wav_scp", folder / "wav.scp", "--output_text", folder / "out" / "hypotheses"]
    assert start(folder, *flags) == 0
    heard = "What can you hear from the audio?"
    assert (folder / "out" / "hypotheses").read_text() == f"u0 {heard}\nu1 {heard}\nu2\n"
    rows = lines(folder / "out" / "hypotheses.jsonl")
    assert [row["audio_id"] for row in rows] == ["u0", "u1", "u2"] and "gone.wav" in rows[2]["error"]
    assert "no answer: " in capsys.readouterr().err

    shutil.copy(GOLDEN / "clip0.wav", folder / "gone.wav")  # mended: answered, and in the text
    echo.batches.clear()
    assert start(folder, *flags) == 0 and echo.batches == [1]
    assert (folder / "out" / "hypotheses").read_text().endswith(f"\nu2 {heard}\n")
    (folder / "out" / "hypotheses").unlink()  # started again, nothing is answered, and the text is there
    assert start(folder, *flags) == 0 and echo.batches == [1]
    assert (folder / "out" / "hypotheses").read_text().count(heard) == 3


def test_manifest_and_both_outputs(folder, echo):
    record = {"audio_id": "a", "audio_filepath": "clip0.wav", "transcription": "x"}
    write_lines(folder / "m.jsonl", [record])
    flags = ["--input", folder / "m.jsonl", "--output", folder / "o.jsonl", "--output_text", folder / "text"]
    assert start(folder, *flags, "--instruction", "Say it") == 0
    assert (folder / "text").read_text() == "a Say it\n"
    assert lines(folder / "o.jsonl") == [{**record, "response": "Say it"}]


def test_each_family_has_its_instruction_and_settings(folder, echo):
    model = ["--model_path", GOLDEN2 / "diffa2_stage1", "--llm_path", GOLDEN2 / "llada", "--whisper_path"]
    model = [*map(str, model), str(GOLDEN2 / "whisper")]
    assert start(folder, "--wav_scp", folder / "wav.scp", "--output_text", folder / "text", model=model) == 0
    assert lines(folder / "text.jsonl")[0]["response"] == "Please transcribe the audio to text."
    settings = json.loads((folder / "text.jsonl.meta.json").read_text())["settings"]
    assert (settings["steps"], settings["block_length"], settings["max_new_tokens"]) == (128, 128, 128)
    assert (settings["threshold"], settings["stop_at_eos"]) == (None, False)


@pytest.mark.parametrize(
    ("durations", "flags", "expected"),
    [
        ([2.0, 3.1], [], (16, 16, 16, 0.9, True)),
        ([2.0, 3.3], [], (32, 32, 16, 0.9, True)),
        ([2.0, 30], [], (128, 128, 16, 0.9, True)),
        ([2.0, None], [], (128, 128, 16, 0.9, True)),
        ([2.0, 3.1], ["--preset", "exact"], (16, 16, 16, None, False)),
        ([2.0, 3.1], ["--max_new_tokens", "64", "--steps", "64"], (64, 64, 16, 0.9, True)),
    ],
)
def test_a_transcript_has_room_for_what_the_longest_clip_may_say_and_stops_at_its_end(
    folder, echo, durations, flags, expected
):
    record = {"audio_filepath": "clip0.wav", "transcription": "x"}
    records = [record | {"audio_id": str(n)} | ({"duration": s} if s else {}) for n, s in enumerate(durations)]
    write_lines(folder / "m.jsonl", records)
    assert start(folder, "--input", folder / "m.jsonl", "--output", folder / "o.jsonl", *flags) == 0
    settings = json.loads((folder / "o.jsonl.meta.json").read_text())["settings"]
    names = ("max_new_tokens", "steps", "block_length", "threshold", "stop_at_eos")
    assert tuple(settings[name] for name in names) == expected


def test_the_text_is_scored_against_kaldis_text(folder, echo, capsys):
    echo.reply = lambda waveform, instruction: "hello world"
    assert start(folder, "--wav_scp", folder / "wav.scp", "--output_text", folder / "hypotheses") == 0
    (folder / "text").write_text("u0 HELLO WORLD\nu1 hello, world\nu2 red green\nu3 blue\n")
    assert evaluate.main([str(folder / "hypotheses"), "--reference", str(folder / "text")]) == 0
    printed = capsys.readouterr().out
    assert "published rule" in printed and "1 item(s) of the reference are missing: u3" in printed
    scores = json.loads((folder / "hypotheses.scores.json").read_text())
    assert (scores["words"], scores["deletions"], scores["substitutions"]) == (7, 3, 0)
    assert (scores["tokens"], scores["published_deletions"], scores["published_substitutions"]) == (7, 3, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output", "o"], "pass one of --input and --wav_scp"),
        (["--input", "m", "--wav_scp", "w", "--output", "o"], "pass one of --input and --wav_scp"),
        (["--wav_scp", "w"], "pass --output, --output_text or both"),
    ],
)
def test_one_input_and_an_output_are_needed(folder, flags, message, capsys):
    with pytest.raises(SystemExit):
        start(folder, *flags)
    assert message in capsys.readouterr().err

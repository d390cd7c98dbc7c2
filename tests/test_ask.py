import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ask
from serving.live_answer import AnswerToken
from src.audio import read_audio, read_windows
from src.generation_options import GenerationOptions
from src.modeling_DIFFA import DIFFAModel

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
PARTS = [
    "--model_path", str(GOLDEN / "diffa_upstream"), "--llm_path", str(GOLDEN / "llada"),
    "--whisper_path", str(GOLDEN / "whisper"), "--dtype", "float32",
]  # fmt: skip
QUESTION = "What can you hear from the audio?"
SHORT = ["--preset", "exact", "--steps", "4", "--block_length", "4", "--max_new_tokens", "4"]
CLIPS = [str(GOLDEN / f"clip{number}.wav") for number in range(3)]


def cut(name: str | Path, *spans: str) -> str:
    """What is told of answers that have no end token, as the golden model's have none in so few tokens."""
    text = "the text is cut at 4 tokens; give a larger --max_new_tokens"
    return "".join(f"warning: {name}: of {span} s {text}\n" for span in spans)


@pytest.fixture
def golden_answers(model, monkeypatch):
    """`ask` answers with the golden model, loaded once; returns what it should say."""
    monkeypatch.setattr(ask, "load_model", lambda args: model)
    options = GenerationOptions(4, 4, 4)
    return [text.strip() for text in model.generate([read_audio(clip) for clip in CLIPS], [QUESTION] * 3, options)]


@pytest.fixture
def long_clip(tmp_path):
    """65 s: more than two of the golden encoder's windows of 30 s."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 65 * 8000), 8000)
    return path


def test_the_answer_is_printed_and_nothing_else(capsys, golden_answers):
    assert ask.main([CLIPS[0], QUESTION, *PARTS, *SHORT]) == 0
    assert capsys.readouterr() == (golden_answers[0] + "\n", cut(CLIPS[0], "0.0-0.8"))


def test_the_question_may_come_after_flags_and_several_files_are_named(capsys, golden_answers):
    assert ask.main([*CLIPS[:2], *PARTS, *SHORT, CLIPS[2], QUESTION]) == 0
    expected = [f"{clip}: {answer}" for clip, answer in zip(CLIPS, golden_answers, strict=True)]
    assert capsys.readouterr().out.rstrip("\n") == "\n".join(expected)


def test_json_holds_the_answer_and_its_tokens(capsys, golden_answers):
    assert ask.main([CLIPS[1], QUESTION, "--json", *PARTS, *SHORT]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["file"], answer["question"], answer["answer"]) == (CLIPS[1], QUESTION, golden_answers[1])
    assert "".join(token["text"] for token in answer["tokens"]).strip() == golden_answers[1]
    assert all(0 < token["confidence"] <= 1 for token in answer["tokens"])
    assert (answer["start"], answer["end"], answer["forward_passes"]) == (0, 2.3, 4)
    assert answer["finish_reason"] == "length"


def test_audio_comes_from_standard_input(capsys, golden_answers, monkeypatch):
    content = io.TextIOWrapper(io.BytesIO(Path(CLIPS[0]).read_bytes()))
    monkeypatch.setattr(sys, "stdin", content)
    assert ask.main(["--stdin", QUESTION, *PARTS, *SHORT]) == 0
    assert capsys.readouterr() == (golden_answers[0] + "\n", cut("standard input", "0.0-0.8"))


def test_of_long_audio_the_first_window_is_heard_with_a_warning(capsys, golden_answers, model, long_clip):
    assert ask.main([str(long_clip), QUESTION, *PARTS, *SHORT]) == 0
    output = capsys.readouterr()
    [expected] = model.generate([read_audio(long_clip)], [QUESTION], GenerationOptions(4, 4, 4))
    assert output.out == expected.strip() + "\n"
    assert "of it, only 0.0-30.0 s is heard; --chunks answers for the rest" in output.err


def test_chunks_answers_for_each_window(capsys, golden_answers, long_clip):
    assert ask.main([str(long_clip), QUESTION, "--chunks", "--json", *PARTS, *SHORT]) == 0
    output = capsys.readouterr()
    answers = [json.loads(line) for line in output.out.splitlines()]
    assert [(answer["start"], answer["end"]) for answer in answers] == [(0, 30), (30, 60), (60, 65)]
    assert output.err == cut(long_clip, "0.0-30.0", "30.0-60.0", "60.0-65.0")


def count_encoded(monkeypatch) -> list[int]:
    """How many waveforms each call of the encoder has had."""
    encoded, encode = [], DIFFAModel.get_speech_features
    monkeypatch.setattr(DIFFAModel, "get_speech_features", lambda model, w: encoded.append(len(w)) or encode(model, w))
    return encoded


def test_several_questions_are_asked_about_a_clip_that_is_encoded_once(capsys, golden_answers, model, monkeypatch):
    encoded = count_encoded(monkeypatch)
    questions = [QUESTION, "Which colour is named?"]
    flags = [word for question in questions for word in ("--ask", question)]
    assert ask.main([*CLIPS[:2], *flags, *PARTS, *SHORT]) == 0
    assert encoded == [1, 1]
    options = GenerationOptions(4, 4, 4)
    others = model.generate([read_audio(clip) for clip in CLIPS[:2]], questions[1:] * 2, options)
    expected = [
        f"{clip}: {question} -> {text}".rstrip()
        for clip, first, other in zip(CLIPS[:2], golden_answers, others, strict=False)
        for question, text in zip(questions, (first, other.strip()), strict=True)
    ]
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == expected


def test_questions_are_read_line_by_line(capsys, golden_answers, model, monkeypatch):
    encoded = count_encoded(monkeypatch)
    typed = io.TextIOWrapper(io.BytesIO(f"\n{QUESTION}\n\udcff\n {QUESTION} \n".encode(errors="surrogateescape")))
    typed.reconfigure(errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", typed)
    assert ask.main([CLIPS[0], "--interactive", *PARTS, *SHORT]) == 0
    output = capsys.readouterr()
    assert output.out == f"{golden_answers[0]}\n" * 2
    assert "is no UTF-8 text" in output.err
    assert encoded == [1]


@pytest.mark.parametrize(("kind", "comma", "header"), [("srt", ",", ""), ("vtt", ".", "WEBVTT\n\n")])
def test_windows_become_subtitles(capsys, golden_answers, model, long_clip, kind, comma, header):
    assert ask.main([str(long_clip), QUESTION, f"--{kind}", *PARTS, *SHORT]) == 0
    texts = [ask.subtitle(kind, number, 0, 0, text).splitlines()[-2] for number, text in answers_to(model, long_clip)]
    spans = [f"00:00:{a}{comma}000 --> 00:{b}{comma}000" for a, b in (("00", "00:30"), ("30", "01:00"))]
    spans.append(f"00:01:00{comma}000 --> 00:01:05{comma}000")
    numbers = [f"{number}\n" if kind == "srt" else "" for number in (1, 2, 3)]
    cues = [f"{n}{span}\n{text}\n\n" for n, span, text in zip(numbers, spans, texts, strict=True)]
    warnings = cut(long_clip, "0.0-30.0", "30.0-60.0", "60.0-65.0")
    assert capsys.readouterr() == (header + "".join(cues), warnings)


@pytest.mark.parametrize(
    ("flags", "lengths"),
    [
        ([], (64, 16, 64)),
        (["--srt"], (128, 16, 128)),
        (["--vtt", "--steps", "32"], (32, 16, 128)),
        (["--srt", "--max_new_tokens", "64", "--block_length", "8"], (128, 8, 64)),
    ],
)
def test_a_subtitle_has_the_room_of_a_transcript_unless_flags_say_otherwise(flags, lengths):
    args = ask.parse([CLIPS[0], QUESTION, *flags])
    assert (args.steps, args.block_length, args.max_new_tokens) == lengths
    assert (args.files, args.questions) == ([CLIPS[0]], [QUESTION])


def answers_to(model, clip) -> list[tuple[int, str]]:
    """By number, what the golden model says of each window of 30 s."""
    windows = [window.waveform for window in read_windows(clip, 30.0)]
    return list(enumerate(model.generate(windows, [QUESTION] * len(windows), GenerationOptions(4, 4, 4)), start=1))


def test_a_bad_file_costs_its_own_answer_alone(capsys, golden_answers, tmp_path):
    renamed = tmp_path / "text.wav"
    renamed.write_text("not a sound")
    assert ask.main([CLIPS[0], str(renamed), CLIPS[1], QUESTION, "--json", *PARTS, *SHORT]) == 1
    output = capsys.readouterr()
    answers = [json.loads(line) for line in output.out.splitlines()]
    assert [answer.get("answer") for answer in answers] == [golden_answers[0], None, golden_answers[1]]
    assert "text.wav: not readable as audio" in answers[1]["error"]
    assert re.search(r": .*text\.wav: not readable as audio", output.err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([QUESTION], "no audio to ask .* about: give a file before the question, or --stdin"),
        (CLIPS[:2], r"the question comes last, and .*clip1\.wav is a file"),
        (["no.wav", CLIPS[0], "none.wav", QUESTION], r"no such audio file: no\.wav, none\.wav"),
        (["--stdin", CLIPS[0], QUESTION], r"with --stdin the question alone is expected, found also .*clip0\.wav"),
        ([CLIPS[0], QUESTION, "--json", "--watch"], "not allowed with"),
        ([], "give a file and a question about it, in quotes"),
        (["--ask", QUESTION], "no audio to ask .* about: give a file"),
        (["none.wav", "--ask", QUESTION], r"no such audio file: none\.wav"),
        (["/tmp", QUESTION], "/tmp is a folder: give the files in it"),
        (["/dev/null", QUESTION], "/dev/null is no plain file: send what it has by --stdin"),
        ([CLIPS[0], "--ask", " "], "the question: ' ' is empty; expected a text"),
        ([CLIPS[0], "--ask", QUESTION, "--interactive"], "not allowed with"),
        (["--stdin", "--interactive"], "--interactive reads questions from standard input, and --stdin audio"),
        ([*CLIPS[:2], QUESTION, "--srt"], "--srt takes one file and one question"),
        ([CLIPS[0], "--ask", "a", "--ask", "b", "--vtt"], "--vtt takes one file and one question"),
    ],
)
def test_what_cannot_be_asked_says_why(capsys, monkeypatch, words, message):
    monkeypatch.setattr(ask, "load_model", lambda args: pytest.fail("loaded for nothing"))
    with pytest.raises(SystemExit) as exit_:
        ask.main(words)
    assert exit_.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_path", "no/such/folder"], ": the DIFFA checkpoint: no folder 'no/such/folder'"),
        ([*PARTS, "--max_new_tokens", "20"], ": block_length 16 does not divide max_new_tokens 20"),
    ],
)
def test_what_cannot_be_loaded_says_why(capsys, flags, message):
    assert ask.main([CLIPS[0], QUESTION, *flags]) == 2
    assert message in capsys.readouterr().err


# --- watching ------------------------------------------------------------------------------------------------------


class Terminal(io.TextIOWrapper):
    """A stdout that says it is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True

    def written(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()


def test_watched_in_a_terminal_masks_turn_into_the_answer_in_place(golden_answers, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(ask, "STEP_SECONDS", 0)
    assert ask.main([CLIPS[0], QUESTION, "--watch", *PARTS, *SHORT]) == 0
    frames = terminal.written().split("\x1b[2K")  # erases the line that the next frame replaces
    assert [frame.count("░") for frame in frames if "░" in frame] == [3, 2, 1]
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|[\r\n]", "", frames[-1])
    assert last == golden_answers[0]


def test_watched_without_a_terminal_every_step_is_a_line(capsys, golden_answers):
    assert ask.main([CLIPS[0], QUESTION, "--watch", *PARTS, *SHORT]) == 0
    output = capsys.readouterr()
    *steps, answer = output.out.splitlines()
    assert [step.count("░") for step in steps] == [3, 2, 1, 0]
    assert [step.partition(":")[0] for step in steps] == [f"after {n}" for n in (1, 2, 3, 4)]
    assert answer == golden_answers[0]
    assert "(4 forward passes; bold: at least 90% sure, dim: below 50%)" in output.err


def test_one_forward_pass_is_one(capsys, golden_answers):
    flags = ["--preset", "exact", "--steps", "1", "--block_length", "4", "--max_new_tokens", "4"]
    assert ask.main([CLIPS[0], QUESTION, "--watch", *PARTS, *flags]) == 0
    assert "(1 forward pass; bold" in capsys.readouterr().err


@pytest.mark.parametrize(("confidence", "style"), [(0.95, "bold"), (0.9, "bold"), (0.7, ""), (0.5, ""), (0.3, "dim")])
def test_confidence_is_a_shade(confidence, style):
    assert ask.shaded(AnswerToken(" cat", confidence, masked=False)) == (" cat", style)


# --- the script and the miniature ----------------------------------------------------------------------------------


def test_the_script_runs_from_another_folder(tmp_path):
    command = [sys.executable, str(ROOT / "ask.py"), CLIPS[0], QUESTION, *PARTS, *SHORT, "--json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    note = f"note: {GOLDEN / 'diffa_upstream'} is a DIFFA checkpoint\nnote: computing in float32: as asked for\n"
    assert (result.returncode, result.stderr) == (0, note + cut(CLIPS[0], "0.0-0.8"))
    assert json.loads(result.stdout)["forward_passes"] == 4


def test_without_a_checkpoint_it_says_that_the_miniature_answers(capsys, golden_answers):
    ask.main([CLIPS[0], QUESTION, *SHORT])
    assert "note: no --model_path given, so the built-in miniature answers" in capsys.readouterr().err


@pytest.mark.skipif(
    not (ROOT / "demo" / "assets" / "diffa").is_dir(),
    reason="no trained adapters yet",
)
@pytest.mark.parametrize(
    ("clip", "question", "answers"),
    [
        ("clip.wav", "Which colour is named?", ["brown"]),
        ("clip.wav", "How many things are there?", ["four"]),
        ("clip.wav", "What can you hear from the audio?", ["the brown cat takes four cups"]),
        ("sheep.flac", "Which colour is named?", ["blue"]),
        ("siren.flac", "Which sound is it?", ["siren"]),
        ("melody.mp3", "How does the melody move?", ["rising"]),
        ("story.ogg", "Which colour is named?", ["brown", "blue", "green"]),
    ],
)
def test_the_miniature_is_right_about_the_examples(capsys, clip, question, answers):
    assert (
        ask.main(
            [str(ROOT / "examples" / clip), question, "--json", "--chunks", "--device", "cpu", "--dtype", "float32"]
        )
        == 0
    )
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [line["answer"] for line in lines] == answers
    assert {line["finish_reason"] for line in lines} == {"stop"} and "warning" not in output.err

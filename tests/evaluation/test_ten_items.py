"""Every benchmark on the golden DIFFA-2 checkpoint: ten items, from questions to the table, twice."""

import importlib
import json
import shutil

import pytest

from evaluation.benchmarks import BENCHMARKS
from evaluation.runner import Parts
from tests.conftest import GOLDEN2
from tests.evaluation.small_runs import ROOT, write_lines

CLIPS = [f"clip{n % 3}.wav" for n in range(10)]
LETTERS = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four"}
TEXTS = {"question": "Which?", "choices": ["one", "two", "three"], "answer": "two"}
MIXES = ("sound", "music", "speech", "mix-sound-music-speech")
LAYERS = ("Signal Layer", "Perception Layer", "Semantic Layer", "Cultural Layer")

RECORDS = {
    "mmsu": lambda n, clip: {"id": n, "audio_path": clip, "question": "Which?", **LETTERS, "answer_gt": "two"},
    "mmau": lambda n, clip: {"id": f"q{n}", "audio_id": clip, **TEXTS, "task": "sound", "difficulty": "easy"},
    "mmar": lambda n, clip: {
        "id": f"q{n}", "audio_path": f"./{clip}", **TEXTS, "modality": MIXES[n % 4], "category": LAYERS[n % 4],
        "sub-category": "Imagination", "language": None,
    },
    "mmaupro": lambda n, clip: {"id": f"q{n}", "audio_path": [clip], **TEXTS, "category": ("music", "sound")[n % 2]},
    "airbench": lambda n, clip: {
        "uniq_id": n, "audio_path": clip, "question": "Which?", **LETTERS, "answer_gt": "two", "dataset_name": "x",
        "task_name": ("Music_AQA", "Sound_AQA")[n % 2],
    },
    "bigbenchaudio": lambda n, clip: {
        "id": n, "file_name": clip, "category": ("navigate", "web_of_lies")[n % 2], "official_answer": "Yes",
    },
    "voicebench": lambda n, clip: {"id": n, "audio": f"../{clip}", "prompt": "Which?", "reference": "B"},
    "asr": lambda n, clip: {"audio_id": f"a{n}", "audio_filepath": clip, "transcription": "one two three"},
}  # fmt: skip
TABLES = {  # lines of each table, up to the number of items or words
    "mmsu": ["total  10"],
    "mmau": ["total  10", "task:", "sound  10"],
    "mmar": ["total  10", "modality:", "mix-sound-music-speech  2", "category:", "Signal Layer  3"],
    "mmaupro": ["total  10", "category:", "music  5"],
    "airbench": ["total  10", "modality:", "music  5", "task_id:", "Sound_AQA_x  5"],
    "bigbenchaudio": ["total  10", "category:", "navigate  5"],
    "voicebench": ["total  10"],
    "asr": ["WER CER published rule", "rate"],
}


def test_there_are_items_of_every_benchmark():
    assert set(RECORDS) == set(TABLES) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_ten_items_are_answered_once_and_scored(name, tmp_path, monkeypatch, capsys):
    for n in range(3):
        shutil.copy(GOLDEN2 / f"clip{n}.wav", tmp_path)
    records = [RECORDS[name](n, clip) for n, clip in enumerate(CLIPS)]
    source = tmp_path / ("openbookqa/test.jsonl" if name == "voicebench" else "items.jsonl")
    output = tmp_path / ("all.json" if BENCHMARKS[name].as_list else "all.jsonl")
    if BENCHMARKS[name].as_list:
        source = source.with_suffix(".json")
        source.write_text(json.dumps(records))
    else:
        write_lines(source, records)
    (path,) = ROOT.glob(f"inference_stage?_{name}.py")
    checkpoint = "diffa2_stage1" if name == "asr" else "diffa2_stage4"
    flags = ["--model_path", GOLDEN2 / checkpoint, "--llm_path", GOLDEN2 / "llada", "--whisper_path"]
    flags += [GOLDEN2 / "whisper", "--input", source, "--output", output, "--batch_size", "4", "--dtype", "float32"]
    if name == "asr":  # short ones
        flags += ["--steps", "16", "--block_length", "16", "--max_new_tokens", "16"]
    start = importlib.import_module(path.stem).main
    assert start(list(map(str, flags))) == 0
    assert "10 of 10 items answered" in capsys.readouterr().out
    answers = output.read_text()

    monkeypatch.setattr(Parts, "load", None)  # a second run loads no model
    assert start(list(map(str, flags))) == 0
    assert "10 of 10 items answered before" in capsys.readouterr().out and output.read_text() == answers
    assert start([*map(str, flags), "--accelerate", "fast_dllm"]) == 2
    assert "made with other settings: factor was None, now 1.0" in capsys.readouterr().err

    assert importlib.import_module(f"{name}.evaluate").main([str(output)]) == 0
    table = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for beginning in TABLES[name]:
        assert any(line.startswith(" ".join(beginning.split())) for line in table), table


def test_mmar_results_are_what_its_own_scorer_reads(tmp_path):
    """One JSON list of the authors' records, unchanged, each with a text as `answer_prediction`, failed ones too."""
    import inference_stage2_mmar

    shutil.copy(GOLDEN2 / "clip0.wav", tmp_path)
    records = [RECORDS["mmar"](n, clip) for n, clip in enumerate(["clip0.wav", "gone.wav"])]
    records[0] |= {"source": "youtube", "timestamp": "00:00:01,00:00:02", "rubric": ["kept as it is"]}
    write_lines(tmp_path / "MMAR-meta.jsonl", records)  # the authors' repository has lines, the hub a list
    flags = ["--model_path", GOLDEN2 / "diffa2_stage4", "--llm_path", GOLDEN2 / "llada", "--whisper_path"]
    flags += [GOLDEN2 / "whisper", "--input", tmp_path / "MMAR-meta.jsonl", "--output", tmp_path / "mmar.json"]
    assert inference_stage2_mmar.main([*map(str, flags), "--max_error_rate", "0.5"]) == 0
    result = json.loads((tmp_path / "mmar.json").read_text())
    assert [type(item["answer_prediction"]) for item in result] == [str, str]
    assert result[1]["answer_prediction"] == "" and "gone.wav" in result[1].pop("error")
    answers = ("answer_prediction", "model_prediction", "model_output")
    assert [{k: v for k, v in item.items() if k not in answers} for item in result] == records
    meta = json.loads((tmp_path / "mmar.json.meta.json").read_text())
    assert [meta["settings"][name] for name in ("steps", "block_length", "max_new_tokens")] == [16, 16, 16]

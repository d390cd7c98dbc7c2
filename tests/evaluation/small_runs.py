"""Runs of the inference scripts on three clips, with the golden model or one that echoes, for the tests."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from transformers import WhisperFeatureExtractor

import inference_stage2_mmsu
from src.modeling_DIFFA import Answers
from tests.conftest import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
MODEL = [
    "--model_path", str(GOLDEN / "diffa_upstream"), "--llm_path", str(GOLDEN / "llada"),
    "--whisper_path", str(GOLDEN / "whisper"), "--dtype", "float32",
]  # fmt: skip
CHOICES = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": None}


def question(n, **changes):
    return {
        "id": n,
        "audio_path": f"clip{n % 3}.wav",
        "question": f"Is it {n}?",
        **CHOICES,
        "answer_gt": "one",
    } | changes


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scores_of(result):
    """What a scorer wrote beside a result file."""
    return json.loads(result.with_name(f"{result.name}.scores.json").read_text(encoding="utf-8"))


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


class EchoModel:
    """Stands in for DIFFA where only the way of the items matters: its answer tells what it heard and was told."""

    feature_extractor = WhisperFeatureExtractor()

    def __init__(self):
        self.batches = []
        self.reply = lambda waveform, instruction: f"{len(waveform)} {instruction}"

    def embed_features(self, input_features, feature_attention_mask):
        return input_features, feature_attention_mask

    def answer(self, waveforms, instructions, options, speech):
        """As if each answer had three tokens and took two forward passes, which fixed a fourth token."""
        self.batches.append(count := len(waveforms))
        assert len(speech[0]) == len(speech[1]) == count
        texts = [self.reply(waveform, text) for waveform, text in zip(waveforms, instructions, strict=True)]
        return Answers(texts, torch.zeros(count, 3, dtype=torch.int64), [3] * count, [4] * count, [2] * count)


def mmsu(folder, *flags, output="out.jsonl"):
    arguments = [*MODEL, "--input_jsonl", folder / "mmsu.jsonl", "--output_jsonl", folder / output, *flags]
    return inference_stage2_mmsu.main([str(argument) for argument in arguments])

"""Transcribe the clips of a manifest, or of Kaldi's wav.scp, with a DIFFA checkpoint.

    python inference_stage1_asr.py --model_path CHECKPOINT --input test-clean.json --output asr.jsonl
    python asr/evaluate.py asr.jsonl
    python inference_stage1_asr.py --model_path CHECKPOINT --wav_scp wav.scp --output_text hypotheses
    python asr/evaluate.py hypotheses --reference text

The output holds every sample of the manifest with what was heard added as `response`. `--output_text` writes lines of
ids and texts besides, or alone: the output is then FILE.jsonl. An utterance that could not be transcribed is an id
without words there, and the output says why, as `error`. Started again, it answers only what is missing.

How to decode, where no flag says so: a DIFFA checkpoint by the preset fast, which stops at the end token, in blocks of
16, as many as the longest clip may need by the manifest's durations (a model that was trained on short texts goes
astray on a long canvas, docs/decoding.md); a DIFFA-2 checkpoint as published.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evaluation.benchmarks import ASR
from evaluation.kaldi_files import check_ids, read_wav_scp, write_text
from evaluation.runner import run
from evaluation.tasks import BenchmarkItem, Task, benchmark_parser, find_audio, read_items
from src.checkpoint import resolve
from src.family import read_family
from src.flag_types import text_flag
from src.generation_options import TRANSCRIPT
from src.prompts import ASR_PROMPTS

PRESET = "fast; for DIFFA-2 exact"  # where none is given
MAX_TOKENS_PER_SECOND = 5  # of speech: quick talkers stay below


def task(args: argparse.Namespace) -> Task:
    """What the flags ask for. Raises BenchmarkFileError."""
    source = args.wav_scp or args.input
    if args.wav_scp:
        records = read_wav_scp(source)
        items = [BenchmarkItem(r, "", find_audio(r[ASR.audio], source, args.audio_root)) for r in records]
    else:
        items = read_items(ASR, source, args.audio_root)
    if args.output_text:
        check_ids(source, [item.record for item in items])
    family = read_family(resolve(args.model_path, "the DIFFA checkpoint", "--model_path"))
    instruction = args.instruction or ASR_PROMPTS[family]
    items = [replace(item, instruction=instruction) for item in items]
    set_defaults(args, [item.record for item in items], family)
    output = args.output or args.output_text.with_name(f"{args.output_text.name}.jsonl")
    finished = partial(write_text, args.output_text) if args.output_text else None
    return Task(ASR, items, output, [source], finished=finished)


def set_defaults(args: argparse.Namespace, records: Sequence[dict], family: str) -> None:
    """How to decode where no flag says so; what stays open, the benchmark's settings for the family decide."""
    if args.preset == PRESET:
        args.preset = "fast" if family == "diffa" else "exact"
    seconds = [record.get("duration") for record in records]
    lengths = (args.steps, args.block_length, args.max_new_tokens)
    if family == "diffa" and lengths == (None, None, None) and all(isinstance(s, (int, float)) for s in seconds):
        args.block_length = TRANSCRIPT["block_length"]
        blocks = math.ceil(max(seconds, default=0) * MAX_TOKENS_PER_SECOND / args.block_length) or 1
        args.steps = args.max_new_tokens = min(blocks * args.block_length, TRANSCRIPT["max_new_tokens"])


def main(argv: list[str] | None = None) -> int:
    parser = benchmark_parser(ASR, __doc__, required=False)
    parser.add_argument(
        "--wav_scp",
        type=Path,
        metavar="FILE",
        help="Kaldi's list of utterances, lines of id and path; replaces --input",
    )
    parser.add_argument("--output_text", type=Path, metavar="FILE", help="lines of id and text, as Kaldi has them")
    parser.add_argument(
        "--instruction", type=text_flag, metavar="TEXT", help="default: the published one of the checkpoint's family"
    )
    parser.add_argument(
        "--stage", type=int, choices=(1, 2), help="default: the one the checkpoint was trained in, else 1"
    )
    parser.set_defaults(preset=PRESET)
    args = parser.parse_args(argv)
    if (args.input is None) == (args.wav_scp is None):
        parser.error("pass one of --input and --wav_scp")
    if args.output is None and args.output_text is None:
        parser.error("pass --output, --output_text or both")
    return run(args, lambda: [task(args)], args.stage)


if __name__ == "__main__":
    sys.exit(main())

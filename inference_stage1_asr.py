"""Transcribe the clips of a manifest with a DIFFA checkpoint.

    python inference_stage1_asr.py --model_path CHECKPOINT --input_json test-clean.json --output_jsonl asr.jsonl
    python asr/evaluate.py asr.jsonl

The output holds every sample of the manifest with what was heard added as `response`. Started again, it answers only
what is missing.
"""

import sys
from pathlib import Path

from evaluation.result_files import read_benchmark
from evaluation.runner import Item, Task, find_audio, run
from src.eval_wer import TRANSCRIPT
from src.inference_flags import make_parser
from src.prompts import ASR_PROMPT

SOURCE = "Pass a manifest with --input_json: a JSON list or JSON Lines of audio_filepath and transcription"
REQUIRED = {"audio_filepath": str, "transcription": str}


def read_items(path: Path, audio_root: Path | None) -> list[Item]:
    """The manifest's clips. Raises BenchmarkFileError naming every broken entry."""
    return [
        Item(record, ASR_PROMPT, find_audio(record["audio_filepath"], path, audio_root))
        for record in read_benchmark(path, REQUIRED, SOURCE)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__, **TRANSCRIPT)
    parser.add_argument("--input_json", "--input_jsonl", "--input_json_path", type=Path, required=True)
    parser.add_argument("--output_jsonl", "--output_json_path", type=Path, required=True)
    parser.add_argument(
        "--stage", type=int, choices=(1, 2), help="default: the one the checkpoint was trained in, else 1"
    )
    args = parser.parse_args(argv)
    return run(args, lambda: [Task(read_items(args.input_json, args.audio_root), args.output_jsonl)], args.stage)


if __name__ == "__main__":
    sys.exit(main())

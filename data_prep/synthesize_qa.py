"""Make stage-2 targets as the paper does: a text LLM answers questions about clips it only knows by their description.

    export OPENAI_API_KEY=...
    python data_prep/synthesize_qa.py data/vctk.json data/iemocap.json --output data/stage2.json \\
        --base_url https://HOST/v1 --model NAME --per_clip 2

For each clip of the manifests, a description is composed of its transcription and `attributes`, instructions are drawn
from instructions.json beside this script (edit it, or pass --pool), and any endpoint that speaks OpenAI's chat
completions is asked. Each answer becomes a sample with the instruction as `input` and the answer as `target`; what the
clip's entry holds otherwise is kept. Refusals, empty and unreadable answers are
dropped and counted.

Replies are saved as they come. Started again with the same command, a run asks for what is missing; finished, they stay
in `<output>.replies.jsonl`, so that the samples can be made again without asking. The draw depends on --seed, the
clip and the attributes of all clips together; a clip that several manifests hold is asked about once.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import path_from
from data_prep.instructions import KINDS, Pool, PoolError, Request, compose_description, draw_requests
from data_prep.replies import Question, ask_missing, discard_replies, verdict_on
from evaluation.endpoint import add_endpoint_flags, endpoint_of, visible_answer
from evaluation.journal import AnswerRecord, meta_path
from src.errors import print_error, reports_user_errors
from src.files import check_outputs
from src.flag_types import whole_number
from src.manifest import read_manifest, write_manifest


def to_entry(request: Request, target: str, folder: Path) -> dict:
    """The manifest's entry for an answered request."""
    sample = request.sample
    return {
        **sample.extra,
        "audio_id": f"{sample.audio_id}-q{request.number}",
        "audio_filepath": path_from(folder, sample.audio_filepath),
        "input": request.instruction,
        "target": target,
        "transcription": sample.transcription,
        "dataset": sample.dataset,
        "duration": sample.duration,
        "kind": request.kind,
    }


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 with every answer there, 1 if some could not be had, 2 if the run could not go on."""
    args = parse_args(argv)
    replies = args.output.with_name(f"{args.output.name}.replies.jsonl")
    check_outputs([args.output, replies, meta_path(replies)], [*args.manifests, args.pool])
    pool = Pool.read(args.pool)
    requests = draw_requests(
        [sample for path in args.manifests for sample in read_manifest(path)], pool, args.per_clip, args.seed
    )
    if not requests:
        raise PoolError(
            "no instruction fits any clip: they have neither transcriptions nor attributes to ask about; pass others"
        )
    endpoint = endpoint_of(args)
    questions = [question_of(request, pool.system) for request in requests]
    if args.overwrite:
        discard_replies([replies], endpoint, questions[0].messages)
    answers, failures = ask_missing(endpoint, questions, replies, settings_of(args, pool, requests), args.concurrency)
    write_samples(args.output, requests, answers)
    if failures:
        print_error(f"{failures} answer(s) could not be had; run again to ask for them")
    return 1 if failures else 0


def settings_of(args: argparse.Namespace, pool: Pool, requests: Sequence[Request]) -> dict:
    """What the replies depend on."""
    asked = json.dumps([[compose_description(request.sample), request.instruction] for request in requests])
    return {
        "model": args.model, "temperature": args.temperature, "top_p": args.top_p, "seed": args.seed,
        "per_clip": args.per_clip, "pool": pool.digest,
        "requests": hashlib.sha256(asked.encode()).hexdigest()[:16],
    }  # fmt: skip


def question_of(request: Request, system: str) -> Question:
    audio_id = request.sample.audio_id
    record = {"audio_id": audio_id, "kind": request.kind, "input": request.instruction}
    return Question(f"{audio_id}, question {request.number}", request.messages(system), record)


def write_samples(path: Path, requests: Sequence[Request], answers: Sequence[AnswerRecord]) -> None:
    """Write the manifest of what is worth keeping, and say what is not. Raises ManifestError where nothing is."""
    counts: Counter[str] = Counter()
    entries = []
    for request, answer in zip(requests, answers, strict=True):
        verdict = verdict_on(answer)
        counts[verdict] += 1
        if verdict == "kept":
            counts[request.kind] += 1
            entries.append(to_entry(request, visible_answer(answer.text).strip(), path.parent))
    write_manifest(path, entries)
    print(f"{path}: {counts['kept']} samples ({', '.join(f'{kind} {counts[kind]}' for kind in KINDS)}); "
          f"dropped {counts['refused']} refusals, {counts['empty']} empty and {counts['unreadable']} unreadable "
          "answers")  # fmt: skip


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("manifests", nargs="+", type=Path, help="of clips, as the corpus scripts write them")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write; .jsonl gives JSON Lines")
    parser.add_argument("--pool", type=Path, default=Path(__file__).with_name("instructions.json"))
    parser.add_argument(
        "--per_clip", type=whole_number(1), default=1, help="questions about each clip (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    add_endpoint_flags(parser, temperature=0.7, top_p=0.95, max_tokens=256)
    parser.add_argument("--overwrite", action="store_true", help="discard the replies on disk")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

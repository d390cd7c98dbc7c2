"""Make stage-2 targets as the paper does: a text LLM answers questions about clips it only knows by their description.

    export OPENAI_API_KEY=...
    python data_prep/synthesize_qa.py data/vctk.json data/iemocap.json --output data/stage2.json \\
        --base_url https://HOST/v1 --model NAME --per_clip 2

For each clip of the manifests, a description is composed of its transcription and `attributes`, instructions are drawn
from instructions.json beside this script (edit it, or pass --pool), and any endpoint that speaks OpenAI's chat
completions is asked. Each answer becomes a sample with the instruction as `input` and the answer as `target`; what the
clip's entry holds otherwise is kept. Refusals and empty answers are dropped and counted.

Replies are saved as they come. Started again with the same command, a run asks for what is missing; finished, they stay
in `<output>.replies.jsonl`, so that the samples can be made again without asking. The draw depends on --seed and the
clip alone, and a clip that several manifests hold is asked about once.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import path_from
from data_prep.instructions import KINDS, Pool, PoolError, Request, compose_description, draw_requests
from evaluation.endpoint import Endpoint, NoReply, add_endpoint_flags, ask_all, endpoint_of, visible_answer
from evaluation.journal import AnswerRecord, Journal, is_written, meta_path, partial_files, remove_answers
from src.errors import print_error, reports_user_errors
from src.files import check_outputs
from src.manifest import read_manifest, write_manifest

REFUSAL = re.compile(
    r"""
      ^\W* (?: (?-i:UNKNOWN)\b | unknown\W*$ )
    | ^\W* (?: i['’]m\s | i\sam\s )? sorry\b .{0,25}
        \b (?: can['’]t | cannot | can\snot | unable | not\sable | don['’]t )
    | \bi\s (?: can['’]t | cannot | can\snot ) \s
        (?: determine | answer | assist | help\swith | hear\sthe | listen | access | identify | describe | provide )
    | \bi (?: ['’]m | \sam ) \s (?: unable | not\sable ) \sto\b
    | \bas\san? \s (?: ai | artificial | language\smodel | text-based ) \b
    | \b (?: provided | given ) \s (?: description | transcript | text | notes ) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def verdict_on(answer: AnswerRecord) -> str:
    """`failed` (no reply), `empty`, `refused` or `kept`."""
    if answer.error is not None:
        return "failed"
    said = visible_answer(answer.text).strip()
    return "empty" if not said else "refused" if REFUSAL.search(said) else "kept"


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


def collect(
    endpoint: Endpoint, system: str, requests: Sequence[Request], journal: Journal, concurrency: int
) -> list[str]:
    """Ask what is missing and save what comes; what failed, as "ID: reason". A later run asks for that again.

    Raises EndpointError when there is no use in asking on; what came before is saved.
    """

    def ask(index: int) -> str:
        return endpoint.ask(requests[index].messages(system))

    failures = []
    missing = [index for index in range(len(requests)) if journal.is_missing(index)]
    for index, reply in ask_all(ask, missing, concurrency, "answer", journal.output.name):
        if isinstance(reply, NoReply):
            failures.append(f"{requests[index].sample.audio_id}, question {requests[index].number}: {reply}")
            journal.append({index: AnswerRecord("", str(reply))})
        else:
            journal.append({index: AnswerRecord(reply)})
    return failures


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
        raise PoolError("no instruction fits any clip: they have neither transcriptions nor attributes to ask about")
    endpoint = endpoint_of(args)
    if args.overwrite and (is_written(replies) or partial_files(replies)):
        endpoint.check(requests[0].messages(pool.system))  # what was paid for is not discarded for nothing
        remove_answers(replies)
    journal = Journal(replies, "reply", settings_of(args, pool, requests))
    failures = collect(endpoint, pool.system, requests, journal, args.concurrency)
    journal.finish([record_of(request) for request in requests], {})
    for failure in failures[:20]:
        print(f"no answer: {failure}", file=sys.stderr)
    write_samples(args.output, requests, journal)
    if failures:
        print_error(f"{len(failures)} answer(s) could not be had; run again to ask for them")
    return 1 if failures else 0


def settings_of(args: argparse.Namespace, pool: Pool, requests: Sequence[Request]) -> dict:
    """What the replies depend on."""
    asked = json.dumps([[compose_description(request.sample), request.instruction] for request in requests])
    return {
        "model": args.model, "temperature": args.temperature, "top_p": args.top_p, "max_tokens": args.max_tokens,
        "seed": args.seed, "per_clip": args.per_clip, "pool": pool.digest,
        "requests": hashlib.sha256(asked.encode()).hexdigest()[:16],
    }  # fmt: skip


def record_of(request: Request) -> dict:
    return {"audio_id": request.sample.audio_id, "kind": request.kind, "input": request.instruction}


def write_samples(path: Path, requests: Sequence[Request], journal: Journal) -> None:
    """Write the manifest of what is worth keeping, and say what is not. Raises ManifestError where nothing is."""
    counts: Counter[str] = Counter()
    entries = []
    for index, request in enumerate(requests):
        answer = journal.answers[index]
        verdict = verdict_on(answer)
        counts[verdict] += 1
        if verdict == "kept":
            counts[request.kind] += 1
            entries.append(to_entry(request, visible_answer(answer.text).strip(), path.parent))
    write_manifest(path, entries)
    print(f"{path}: {counts['kept']} samples ({', '.join(f'{kind} {counts[kind]}' for kind in KINDS)}); "
          f"dropped {counts['refused']} refusals and {counts['empty']} empty answers")  # fmt: skip


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("manifests", nargs="+", type=Path, help="of clips, as the corpus scripts write them")
    parser.add_argument("--output", type=Path, required=True, help="manifest to write; .jsonl gives JSON Lines")
    parser.add_argument("--pool", type=Path, default=Path(__file__).with_name("instructions.json"))
    parser.add_argument("--per_clip", type=int, default=1, help="questions about each clip (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    add_endpoint_flags(parser, temperature=0.7, top_p=0.95, max_tokens=256)
    parser.add_argument("--overwrite", action="store_true", help="discard the replies on disk")
    args = parser.parse_args(argv)
    for name in ("per_clip", "concurrency", "tries"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())

"""Ask DIFFA about sound.

    python ask.py examples/clip.wav "Which colour is named?"
    python ask.py examples/*.wav "What can you hear from the audio?" --json
    ffmpeg -i talk.mp4 -f wav - | python ask.py --stdin "Who is speaking?" --model_path zhoujiaming777/DIFFA
    python ask.py talk.mp3 "What is it about?" --model_path exp/stage2 --chunks --watch

The question comes last. Of audio longer than the encoder's window (30 s) the first window is heard, or with --chunks
each one by itself. Exit status: 0, 1 (some audio could not be used), or 2 (nothing could be asked).
"""

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator

from serving.live_answer import MASK, SURE, UNSURE, AnswerToken, LiveAnswer, live_answers
from src.audio import AudioError, Window, read_windows, window_seconds
from src.errors import print_error, reports_user_errors
from src.flag_types import text_flag
from src.generation_options import GenerationOptions
from src.inference_flags import add_decoding_flags, add_model_flags, options_of
from src.loading import DECODING_DEFAULTS, NOTICE, load_model
from src.modeling_DIFFA import DIFFAModel

STEP_SECONDS = 0.1  # each step stays as long in a terminal, for the eye; small models are faster
LEGEND = f"bold: at least {SURE:.0%} sure, dim: below {UNSURE:.0%}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="ask.py [flags] FILE [FILE ...] QUESTION\n       ask.py [flags] --stdin QUESTION",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "words",
        nargs="+",
        metavar="FILE ... QUESTION",
        help="audio (WAV, MP3, M4A, OGG, WebM, ...), then what to ask about it",
    )
    parser.add_argument("--stdin", action="store_true", help="read the audio file from standard input")
    parser.add_argument("--chunks", action="store_true", help="long audio: answer for each window of it")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object a line, with every token's confidence")
    output.add_argument("--watch", action="store_true", help="show the answer after every forward pass")
    add_model_flags(parser, default="the built-in miniature")
    add_decoding_flags(parser, **DECODING_DEFAULTS)
    return parser


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags, with `files` and `question` out of the words. Exits with a message for what cannot be asked."""
    parser = make_parser()
    args = parser.parse_intermixed_args(argv)
    *args.files, args.question = args.words
    if os.path.isfile(args.question):
        parser.error(f"the question comes last, and {args.question} is a file: add the question, in quotes")
    try:
        text_flag(args.question)
    except argparse.ArgumentTypeError as error:
        parser.error(f"the question, which comes last: {error}")
    if args.stdin and args.files:
        parser.error(f"with --stdin the question alone is expected, found also {', '.join(args.files)}")
    if not args.stdin and not args.files:
        parser.error(f"no audio to ask {args.question!r} about: give a file before the question, or --stdin")
    missing = [file for file in args.files if not os.path.isfile(file)]
    if missing:
        parser.error(f"no such audio file: {', '.join(missing)}")
    return args


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.model_path is None:
        print(f"note: {NOTICE}", file=sys.stderr)
    options, model = options_of(args), load_model(args)
    sources = [(sys.stdin.buffer.read(), "standard input")] if args.stdin else [(file, file) for file in args.files]
    unusable = 0
    for source, name in sources:
        try:
            ask(model, source, name, args, options)
        except AudioError as error:
            unusable += 1
            print_error(error)
            if args.json:
                print(json.dumps({"file": name, "question": args.question, "error": str(error)}))
    return int(unusable > 0)


def ask(
    model: DIFFAModel, source: str | bytes, name: str, args: argparse.Namespace, options: GenerationOptions
) -> None:
    """Answer about one file: its first window, or all of them. Raises AudioError."""
    for window in read_windows(source, window_seconds(model.feature_extractor), name):
        for warning in window.warnings:
            print(f"warning: {name}: {warning}", file=sys.stderr)
        time_span = f"{window.start:.1f}-{window.end:.1f} s"
        label = f"{name} {time_span}: " if args.chunks else f"{name}: " if len(args.files) > 1 else ""
        clock = time.perf_counter()
        steps = live_answers(model, window.waveform, args.question, options)
        draft = watch(steps, label) if args.watch else deque(steps, maxlen=1).pop()
        seconds = time.perf_counter() - clock
        if args.watch:
            print(f"({draft.forward_passes} forward passes; {LEGEND})", file=sys.stderr)
        elif args.json:
            print(json.dumps(as_json(name, args.question, window, draft, seconds)), flush=True)
        else:
            print(f"{label}{draft.text.strip()}", flush=True)
        if not args.chunks:
            if not window.is_last:
                print(
                    f"warning: {name}: of it, only {time_span} is heard; --chunks answers for the rest", file=sys.stderr
                )
            return


def as_json(name: str, question: str, window: Window, draft: LiveAnswer, seconds: float) -> dict:
    return {
        "file": name,
        "start": round(window.start, 3),
        "end": round(window.end, 3),
        "question": question,
        "answer": draft.text.strip(),
        "tokens": [{"text": t.text, "confidence": round(t.confidence, 4)} for t in draft.tokens if t.text],
        "forward_passes": draft.forward_passes,
        "seconds": round(seconds, 3),
    }


def watch(steps: Iterator[LiveAnswer], label: str) -> LiveAnswer:
    """Show live_answers as they come, in place where a terminal can; returns the last one."""
    if not sys.stdout.isatty():
        for draft in steps:
            text = "".join(MASK if token.masked else token.text for token in draft.tokens)
            print(f"{label}after {draft.forward_passes}: {text.strip()}")
        print(f"{label}{draft.text.strip()}", flush=True)
        return draft
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False) as live:
        for draft in steps:
            live.update(Text.assemble(label, *(shaded(token) for token in draft.tokens)), refresh=True)
            time.sleep(STEP_SECONDS)
    return draft


def shaded(token: AnswerToken) -> tuple[str, str]:
    """A token's text and style, which goes by confidence alone, so that it shows on light and dark terminals."""
    if token.masked:
        return MASK, "dim"
    return token.text, "bold" if token.confidence >= SURE else "dim" if token.confidence < UNSURE else ""


if __name__ == "__main__":
    sys.exit(main())

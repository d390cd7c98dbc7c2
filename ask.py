"""Ask DIFFA about sound.

    python ask.py examples/clip.wav "Which colour is named?"
    python ask.py examples/*.wav "What can you hear from the audio?" --json
    python ask.py examples/clip.wav --ask "Which colour is named?" --ask "How many things are there?"
    python ask.py examples/clip.wav --interactive
    ffmpeg -i talk.mp4 -f wav - | python ask.py --stdin "Who is speaking?" --model_path zhoujiaming777/DIFFA
    python ask.py talk.mp3 "What can you hear from the audio?" --model_path exp/stage2 --srt > talk.srt

The question comes last. Several, by --ask or --interactive, are asked about sound that is encoded once. Of audio longer
than the encoder's window (30 s) the first window is heard, or with --chunks each one by itself. An answer longer than
--max_new_tokens is cut, with a warning. Exit status: 0, 1 (some audio could not be used), or 2 (nothing could be
asked).
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from serving.live_answer import MASK, SURE, UNSURE, AnswerToken, LiveAnswer, count, live_answers
from serving.subtitles import FORMATS, HEADERS, subtitle
from src.audio import AudioError, Window, read_windows, window_seconds
from src.errors import print_error, reports_user_errors
from src.flag_types import text_flag
from src.generation_options import TRANSCRIPT, GenerationOptions
from src.inference_flags import add_decoding_flags, add_model_flags, options_of
from src.loading import DECODING_DEFAULTS, NOTICE, load_model
from src.modeling_DIFFA import DIFFAModel

STEP_SECONDS = 0.1  # each step stays as long in a terminal, for the eye; small models are faster
LEGEND = f"bold: at least {SURE:.0%} sure, dim: below {UNSURE:.0%}"


@dataclass(frozen=True)
class EncodedWindow:
    """A window of a file, encoded once for all questions about it."""

    name: str  # of the file
    window: Window
    speech: tuple[torch.Tensor, torch.Tensor]  # [1, N, d_llm], [1]
    seconds: float  # that encoding took

    @property
    def time_span(self) -> str:
        return f"{self.window.start:.1f}-{self.window.end:.1f} s"


@dataclass
class Asker:
    """Asks, and shows the answers as the flags say."""

    options: GenerationOptions
    model: DIFFAModel
    args: argparse.Namespace
    num_subtitles: int = field(default=0, init=False)

    def windows(self, source: str | bytes, name: str) -> Iterator[EncodedWindow]:
        """A file's first window, or all of them. Raises AudioError."""
        for window in read_windows(source, window_seconds(self.model.feature_extractor), name):
            for warning in window.warnings:
                print(f"warning: {name}: {warning}", file=sys.stderr)
            clock = time.perf_counter()
            speech = self.model.get_speech_features([window.waveform])
            encoded = EncodedWindow(name, window, speech, time.perf_counter() - clock)
            yield encoded
            if not self.args.chunks:
                if not window.is_last:
                    heard = f"of it, only {encoded.time_span} is heard; --chunks answers for the rest"
                    print(f"warning: {name}: {heard}", file=sys.stderr)
                return

    def ask(self, encoded: EncodedWindow, question: str) -> None:
        """Answer one question about a window."""
        label, clock = self.label(encoded, question), time.perf_counter()
        steps = live_answers(self.model, encoded.window.waveform, question, self.options, encoded.speech)
        draft = watch(steps, label) if self.args.watch else deque(steps, maxlen=1).pop()
        seconds = time.perf_counter() - clock
        if self.args.watch:
            print(f"({count(draft.forward_passes, 'forward pass', 'es')}; {LEGEND})", file=sys.stderr)
        elif self.args.json:
            print(json.dumps(as_json(encoded, question, draft, encoded.seconds + seconds)), flush=True)
        elif self.args.subtitles:
            if text := draft.text.strip():
                self.num_subtitles += 1
                window = encoded.window
                cue = subtitle(self.args.subtitles, self.num_subtitles, window.start, window.end, text)
                print(cue, end="", flush=True)
        else:
            print(f"{label}{draft.text.strip()}", flush=True)
        if not draft.ended:
            cut = f"of {encoded.time_span} the text is cut at {self.options.max_new_tokens} tokens"
            print(f"warning: {encoded.name}: {cut}; give a larger --max_new_tokens", file=sys.stderr)

    def label(self, encoded: EncodedWindow, question: str) -> str:
        """What stands before an answer: of several files, windows or questions, which one it is about."""
        args, parts = self.args, []
        if args.chunks or len(args.files) > 1:
            parts.append(f"{encoded.name} {encoded.time_span}: " if args.chunks else f"{encoded.name}: ")
        if len(args.questions) > 1:
            parts.append(f"{question} -> ")
        return "".join(parts)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="ask.py [flags] FILE [FILE ...] QUESTION\n"
        "       ask.py [flags] FILE [FILE ...] --ask QUESTION [--ask QUESTION ...]\n"
        "       ask.py [flags] FILE [FILE ...] --interactive\n"
        "       ask.py [flags] --stdin QUESTION",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FILE ... QUESTION",
        help="audio (WAV, MP3, M4A, OGG, WebM, ...), then what to ask about it",
    )
    parser.add_argument("--stdin", action="store_true", help="read the audio file from standard input")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--ask", action="append", default=[], metavar="QUESTION", dest="questions",
        help="a question, in place of the last word; may be given several times",
    )  # fmt: skip
    asked.add_argument("--interactive", action="store_true", help="read questions line by line, until the input ends")
    parser.add_argument("--chunks", action="store_true", help="long audio: answer for each window of it")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object a line, with every token's confidence")
    output.add_argument("--watch", action="store_true", help="show the answer after every forward pass")
    for kind in FORMATS:
        output.add_argument(
            f"--{kind}", action="store_const", const=kind, dest="subtitles",
            help=f"of one file and question: {kind.upper()} subtitles, one for each window (as with --chunks), "
            f"of up to {TRANSCRIPT['max_new_tokens']} tokens by default",
        )  # fmt: skip
    add_model_flags(parser, default="the built-in miniature")
    add_decoding_flags(parser, **DECODING_DEFAULTS)
    return parser


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags, with `files` and `questions` out of the words. Exits with a message for what cannot be asked."""
    parser = make_parser()
    args = parser.parse_intermixed_args(argv)
    if args.subtitles:  # a window full of speech takes more than an answer
        parser.set_defaults(**TRANSCRIPT)
        args = parser.parse_intermixed_args(argv)
    args.files, last = args.words, "the question"
    if not args.questions and not args.interactive:
        if not args.words:
            parser.error("give a file and a question about it, in quotes")
        *args.files, question = args.words
        args.questions, last = [question], "the question, which comes last"
        if os.path.isfile(question):
            parser.error(f"the question comes last, and {question} is a file: add the question, in quotes")
    for question in args.questions:
        try:
            text_flag(question)
        except argparse.ArgumentTypeError as error:
            parser.error(f"{last}: {error}")
    if args.stdin and args.interactive:
        parser.error("--interactive reads questions from standard input, and --stdin audio: give a file")
    if args.stdin and args.files:
        parser.error(f"with --stdin the question alone is expected, found also {', '.join(args.files)}")
    if not args.stdin and not args.files:
        about = f" to ask {args.questions[0]!r} about" if args.questions else ""
        parser.error(f"no audio{about}: give a file before the question, or --stdin")
    missing = [file for file in args.files if not os.path.isfile(file)]
    for file in filter(os.path.exists, missing):
        hint = "a folder: give the files in it" if os.path.isdir(file) else "no plain file: send what it has by --stdin"
        parser.error(f"{file} is {hint}")
    if missing:
        parser.error(f"no such audio file: {', '.join(missing)}; check the path")
    if args.subtitles and (len(args.files) > 1 or len(args.questions) != 1):
        parser.error(f"--{args.subtitles} takes one file and one question: leave out the others")
    args.chunks = args.chunks or args.subtitles is not None
    return args


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.model_path is None:
        print(f"note: {NOTICE}", file=sys.stderr)
    asker = Asker(options_of(args), load_model(args), args)
    sources = [(sys.stdin.buffer.read(), "standard input")] if args.stdin else [(file, file) for file in args.files]
    if args.subtitles:
        print(HEADERS[args.subtitles], end="")
    unusable, kept = 0, []
    for source, name in sources:
        try:
            for encoded in asker.windows(source, name):
                for question in args.questions:
                    asker.ask(encoded, question)
                kept += [encoded] * args.interactive
        except AudioError as error:
            unusable += 1
            print_error(error)
            for question in args.questions if args.json else ():
                print(json.dumps({"file": name, "question": question, "error": str(error)}))
    if kept:
        for question in lines():
            for encoded in kept:
                asker.ask(encoded, question)
    return int(unusable > 0)


def lines() -> Iterator[str]:
    """Questions as they are typed, or come from a pipe; empty lines are passed over."""
    with contextlib.suppress(ModuleNotFoundError):  # not on every system
        import readline  # noqa: F401 (arrow keys edit the line and bring earlier questions back)
    try:
        while True:
            question = input("? " if sys.stdin.isatty() else "").strip()
            try:
                if question:
                    yield text_flag(question)
            except argparse.ArgumentTypeError as error:
                print_error(error)
    except (EOFError, KeyboardInterrupt):
        return


def as_json(encoded: EncodedWindow, question: str, draft: LiveAnswer, seconds: float) -> dict:
    return {
        "file": encoded.name,
        "start": round(encoded.window.start, 3),
        "end": round(encoded.window.end, 3),
        "question": question,
        "answer": draft.text.strip(),
        "tokens": [{"text": t.text, "confidence": round(t.confidence, 4)} for t in draft.tokens if t.text],
        "finish_reason": "stop" if draft.ended else "length",
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

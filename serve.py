"""Serve DIFFA to OpenAI's clients.

    python serve.py                                                    # the built-in miniature, on this machine alone
    python serve.py --model_path zhoujiaming777/DIFFA --batch_size 16 --max_wait_ms 20
    API_KEY=... python serve.py --api_key_env API_KEY --host 0.0.0.0 --port 8000

`POST /v1/chat/completions` with an `input_audio` part, `POST /v1/audio/transcriptions`, `GET /v1/models`, `/health`,
`/metrics`, `/docs`; docs/serving.md has the details. SIGTERM and SIGINT (Ctrl-C) let nothing more in and finish what
was accepted; a second one ends at once.
"""

import argparse
import logging
import os
import re
import sys
import time
from types import FrameType
from typing import Any

from src.errors import print_error, reports_user_errors
from src.flag_types import MAX_PORT, finite_number, text_flag, whole_number
from src.inference_flags import OptionError, add_decoding_flags, add_model_flags, given_settings, options_of
from src.loading import DECODING_DEFAULTS, NOTICE, check_port, load_model

try:
    import uvicorn

    from serving.batching import Batcher, Metrics
    from serving.routes import Api
    from serving.validation import Service
except ModuleNotFoundError as error:
    print_error(f"{error}: pip install -r requirements-serve.txt")
    sys.exit(2)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_HEADER_SECONDS = 60  # until a connection's headers have come; its body: serving/uploads.py
MIB = 2**20


class Server(uvicorn.Server):
    """Stops listening when what it accepted is finished, and not before: until then, new requests are told."""

    def __init__(self, config: uvicorn.Config, api: Api) -> None:
        super().__init__(config)
        self.api = api
        self.waiting: dict[
            Any, tuple[Any, float]
        ] = {}  # connection -> its last request, since when the next is awaited

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.api.draining:
            os._exit(1)  # at once, whatever the model's thread is at
        self.api.draining = True

    def close_silent(self) -> None:
        """Close connections whose headers do not come, for which uvicorn would wait forever."""
        now = time.monotonic()
        waiting = {}
        for connection in list(self.server_state.connections):
            request = connection.cycle
            if request is None or request.response_complete:
                before, since = self.waiting.get(connection, (None, now))
                waiting[connection] = request, since if before is request else now
                if now - waiting[connection][1] > MAX_HEADER_SECONDS:
                    connection.transport.close()
        self.waiting = waiting

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # each second
            self.close_silent()
        return await super().on_tick(counter) or (self.api.draining and self.api.in_flight == 0)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_flags(parser, default="the built-in miniature")
    add_decoding_flags(parser, **DECODING_DEFAULTS)
    parser.set_defaults(seed=None)  # samples differ unless a request, or this flag, says otherwise
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host", type=text_flag, default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    server.add_argument(
        "--port", type=whole_number(0, MAX_PORT), default=8000, help="0: any that is free (default: %(default)s)"
    )
    server.add_argument(
        "--served_model_name", type=text_flag, default="diffa", help="what clients call it (default: %(default)s)"
    )
    server.add_argument("--api_key_env", metavar="NAME", help="environment variable with the key clients must send")
    server.add_argument(
        "--cors", action="append", default=[], metavar="ORIGIN", dest="origins",
        help="let scripts of web pages from there ask, as https://example.org; * for all; may be given several times "
        "(default: none)",
    )  # fmt: skip
    server.add_argument("--batch_size", type=int, default=8, help="requests answered together (default: %(default)s)")
    server.add_argument("--max_queue", type=int, default=64, help="requests that may wait (default: %(default)s)")
    server.add_argument(
        "--max_wait_ms",
        type=finite_number,
        default=10.0,
        help="that a request waits for company (default: %(default)s)",
    )
    server.add_argument(
        "--max_answer_tokens", type=int, default=512, help="of the longest answer (default: %(default)s)"
    )
    server.add_argument(
        "--canvas", choices=("fixed", "grow"), default="fixed",
        help="tokens denoised for an answer: fixed, --max_new_tokens whatever a request asks for, whose max_tokens "
        "cuts the text alone; grow, more blocks for a longer one (default: %(default)s)",
    )  # fmt: skip
    server.add_argument(
        "--history", action="store_true",
        help="give the chat template all turns of a conversation, which published checkpoints were not trained with; "
        "without it, the last turn alone is asked",
    )  # fmt: skip
    server.add_argument("--max_upload_mb", type=finite_number, default=32.0, help="of a request (default: %(default)s)")
    server.add_argument(
        "--max_audio_seconds", type=finite_number, default=600.0, help="of a clip (default: %(default)s)"
    )
    return parser


def key_of(args: argparse.Namespace) -> str:
    """The API key, "" for none. Raises OptionError where there ought to be one."""
    if args.api_key_env is None:
        return ""
    key = os.environ.get(args.api_key_env, "").strip()  # no header can hold the blanks around it
    if not key:
        raise OptionError(f"--api_key_env {args.api_key_env}: this environment variable is empty or not set")
    return key


def check(args: argparse.Namespace) -> None:
    """Raises OptionError for numbers that cannot be."""
    for name in ("max_queue", "max_answer_tokens", "max_upload_mb", "max_audio_seconds"):
        if getattr(args, name) <= 0:
            raise OptionError(f"{name} is {getattr(args, name)}; it must be above 0")
    for origin in args.origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise OptionError(f"--cors {origin}: an origin is expected, like https://example.org, without a path, or *")
    if args.max_wait_ms < 0:
        raise OptionError(f"max_wait_ms is {args.max_wait_ms}; it must not be negative")
    if args.max_new_tokens > args.max_answer_tokens:
        raise OptionError(
            f"max_new_tokens {args.max_new_tokens} is above max_answer_tokens "
            f"{args.max_answer_tokens}; lower one or raise the other"
        )


@reports_user_errors
def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.model_path is None:
        print(f"note: {NOTICE}", file=sys.stderr)
    check(args)
    options_of(args)
    check_port(args.host, args.port)
    key, model = key_of(args), load_model(args)
    if args.host not in LOOPBACK and not key:
        print(f"warning: anyone who reaches {args.host} may ask; --api_key_env asks for a key", file=sys.stderr)
    logging.basicConfig(level=logging.INFO)
    service = Service(
        model, args.served_model_name, args.preset, given_settings(args), args.max_answer_tokens,
        args.max_audio_seconds, canvas_grows=args.canvas == "grow", history=args.history,
    )  # fmt: skip
    metrics = Metrics()
    batcher = Batcher(
        model.decode, model.llm_model.config.mask_token_id, args.batch_size, args.max_queue, args.max_wait_ms / 1000,
        metrics,
    )  # fmt: skip
    api = Api(service, batcher, metrics, key, int(args.max_upload_mb * MIB), args.origins)
    server = Server(uvicorn.Config(api, host=args.host, port=args.port), api)
    server.run()
    batcher.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

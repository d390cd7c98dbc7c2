"""What ask.py, app.py and serve.py share: decoding defaults, and the built-in miniature for want of a checkpoint."""

import argparse
import socket
import sys

from src.configuration_DIFFA import ROOT
from src.family import describe
from src.inference_flags import OptionError, device_of
from src.modeling_DIFFA import DIFFAModel
from src.precision import choose_precision
from src.quantization import told

MODEL = ROOT / "demo" / "assets" / "diffa"
LLM = ROOT / "demo" / "assets" / "llada"
WHISPER = ROOT / "demo" / "assets" / "whisper"
# For answers of unknown length: no block after the end is computed, and sure tokens are fixed together.
DECODING_DEFAULTS = {"preset": "fast", "steps": 64, "block_length": 16, "max_new_tokens": 64}
NOTICE = (
    "no --model_path given, so the built-in miniature answers: it knows 94 words and the questions in "
    "examples/README.md, and hears 4 s"
)


def load_model(args: argparse.Namespace) -> DIFFAModel:
    """The model of the flags (`inference_flags.add_model_flags`), in the stage it was trained in, or the miniature.

    Says on standard error what it is, and what it computes in.
    Raises OptionError for a device that is not there, and CheckpointError for a checkpoint that is missing or does
    not fit.
    """
    device = device_of(args)
    parts = (args.model_path, args.llm_path, args.whisper_path)
    if args.model_path is None:
        parts = (MODEL, args.llm_path or LLM, args.whisper_path or WHISPER)
    precision = choose_precision(device, args.dtype)
    model = DIFFAModel.from_pretrained(
        *parts, torch_dtype=precision.dtype, device=device, use_lora=args.use_lora, quantization=args.quantize
    )
    model.system_prompt = args.system_prompt
    print(f"note: {parts[0]} is {describe(model.config, model.lora)}", file=sys.stderr)
    print(f"note: {precision}", file=sys.stderr)
    if args.quantize:
        print(f"note: {told(args.quantize)}", file=sys.stderr)
    return model


def check_port(host: str, port: int) -> None:
    """Raise OptionError unless a server could listen there now; to be asked before a model is loaded for long."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = error.strerror
        raise OptionError(f"nothing can listen at --host {host} --port {port} ({reason}): pass others") from None

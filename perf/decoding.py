"""How long an answer takes in each decoding mode, against the published algorithm; random weights, real shapes.

    python perf/decoding.py --json decoding.json --plot decoding.png
    python perf/decoding.py --d_model 64 --n_layers 2 --vocabulary 1000 --whisper tiny    # to try it

Prints one table, rows by name; `--json` writes it, and under `run` where and how it was measured. `naive` is
`tests/reference.py`, the published algorithm, over LLaDA's public code (`tests/published_llada.py`). `exact`, `prefix`,
`dual` and `dual_parallel` are the sampler's modes; `multiple_choice` is exact decoding of a 4-token answer, beside
`naive_multiple_choice`.

Decoding (from the prompt's embeddings on) and the encoder (from the waveform to these) are measured apart, so that each
row has its seconds without the encoder and with it, and both ratios; the published code encodes in float32, with states
of all layers, and keys and values of all frames in the Q-Former. `ratio_to_naive` is the one to tell: with the encoder
in `exact` and `multiple_choice`, which are whole answers, token for token as published; without it in the other rows.

Random weights are never confident, so parallel decoding has nothing to go by. The row `dual_parallel` stands in for it:
the dual cache, with `--tokens_per_pass` tokens fixed in every pass. `--compile` adds rows of compiled blocks; what the
compiler takes is not in them, but in `run`.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor

from evaluation.scoring import format_table
from perf import measure
from src.configuration_DIFFA import SAMPLE_RATE, DIFFAConfig, LLaDAConfig
from src.errors import reports_user_errors
from src.inference_flags import add_device_flags, device_of
from src.llm_generate import GenerationOptions, Prompt, generate
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from src.precision import choose_precision
from src.prompts import build_prompt, tokenize_prompt
from tests import reference

TOKENIZER = Path(__file__).resolve().parents[1] / "demo" / "assets" / "llada"
WHISPER_SHAPES = {"tiny": (384, 4, 6), "small": (768, 12, 12), "medium": (1024, 24, 16)}  # d_model, layers, heads
MULTIPLE_CHOICE = GenerationOptions(steps=4, block_length=4, max_new_tokens=4)
WITH_ENCODER = ("naive", "exact", "multiple_choice", "naive_multiple_choice")  # the rows whose ratio counts it
LENGTHS = (16, 32, 64, 128)  # of the plot


@dataclass(frozen=True)
class DecodingRow:
    """One line of the table: one answer to one prompt. Where nothing else is said, the encoder is not counted."""

    seconds: float
    seconds_with_encoder: float
    ratio_to_naive: float  # one of the next two, by `WITH_ENCODER`
    ratio_without_encoder: float
    ratio_with_encoder: float
    forward_passes: int
    tokens_per_second: float
    peak_mebibytes: float  # above what was taken before
    gigaflops: float  # in matrix products
    share_of_limit: float  # of the machine's matrix products in that time
    same_tokens: bool  # as the published algorithm's


def random_model(
    args: argparse.Namespace, device: torch.device, dtype: torch.dtype, model_class: type[DIFFAModel] = DIFFAModel
) -> DIFFAModel:
    """A DIFFA of the wanted shape with random weights, all of them in one number format."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    eos_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    llm_config = LLaDAConfig(
        d_model=args.d_model, n_layers=args.n_layers, n_heads=args.d_model // 64, n_kv_heads=args.d_model // 64,
        mlp_hidden_size=3 * args.d_model, embedding_size=args.vocabulary, rope_theta=5e5, rms_norm_eps=1e-5,
        max_sequence_length=4096, weight_tying=False, mask_token_id=tokenizer.convert_tokens_to_ids("<|mdm_mask|>"),
        eos_token_id=eos_id, pad_token_id=eos_id,
    )  # fmt: skip
    d_whisper, layers, heads = WHISPER_SHAPES[args.whisper]
    whisper_config = WhisperConfig(
        d_model=d_whisper, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=4 * d_whisper
    )
    llm, whisper = LLaDAModel(llm_config), WhisperAudioEncoder(whisper_config)
    model = model_class(DIFFAConfig(stage=2), llm, whisper, tokenizer, WhisperFeatureExtractor())
    return model.requires_grad_(False).to(device, dtype).eval()


def instruction_of(tokenizer: PreTrainedTokenizerFast, text_tokens: int) -> str:
    """Words enough for a prompt of so many text tokens, the chat template included."""
    words: list[str] = []
    while len(tokenize_prompt(tokenizer, build_prompt(" ".join(words)))[0]) < text_tokens:
        words.append("colour")
    return " ".join(words)


def as_published(model: DIFFAModel) -> DIFFAModel:
    """The model as the published code runs it: encoder and adapters in float32; the LLM's weights are the same."""
    published = reference.as_published(model)
    published.whisper_model = copy.deepcopy(published.whisper_model).float()
    published.to_adapter_dtype(torch.float32)
    return published


@dataclass(frozen=True)
class Answer:
    ids: torch.Tensor  # int64 [max_new_tokens]
    forward_passes: int


def by_naive(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions, audio: slice) -> Answer:
    ids = reference.generate(llm, prompt.inputs_embeds[0], options, audio=audio)
    return Answer(ids.cpu(), options.steps)


def by_sampler(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> Answer:
    progress = generate(llm, prompt, options)
    return Answer(progress.answer_ids[0].cpu(), int(progress.forward_passes[0]))


def modes_of(options: GenerationOptions, tokens_per_pass: int) -> dict[str, GenerationOptions]:
    """The sampler's rows."""
    return {
        "exact": options,
        "prefix": replace(options, cache="prefix"),
        "dual": replace(options, cache="dual"),
        "dual_parallel": replace(options, cache="dual", steps=options.steps // tokens_per_pass),
    }


def compiled_copy(llm: LLaDAModel) -> LLaDAModel:
    """The same weights in compiled blocks."""
    twin = copy.deepcopy(llm, {id(parameter): parameter for parameter in llm.parameters()})
    twin.compile_blocks()
    return twin


def cases_of(
    args: argparse.Namespace, llm: LLaDAModel, published: LLaDAModel, prompt: Prompt, audio: slice
) -> dict[str, Callable[[], Answer]]:
    """What is measured, by the row's name. `audio`: where in the prompt it is."""
    options = GenerationOptions(args.steps, args.block_length, args.max_new_tokens)
    cases = {"naive": lambda: by_naive(published, prompt, options, audio)}
    for name, mode in modes_of(options, args.tokens_per_pass).items():
        cases[name] = lambda mode=mode: by_sampler(llm, prompt, mode)
    if args.compile:
        compiled = compiled_copy(llm)
        for name, mode in (("exact", options), ("dual", replace(options, cache="dual"))):
            cases[f"{name}_compiled"] = lambda mode=mode: by_sampler(compiled, prompt, mode)
    cases["naive_multiple_choice"] = lambda: by_naive(published, prompt, MULTIPLE_CHOICE, audio)
    cases["multiple_choice"] = lambda: by_sampler(llm, prompt, MULTIPLE_CHOICE)
    return cases


def rows_of(
    cases: Mapping[str, Callable[[], Answer]],
    encoders: Mapping[str, Callable[[], Prompt]],
    device: torch.device,
    runs: int,
    limit: float,
) -> tuple[dict[str, DecodingRow], dict[str, float]]:
    """The rows, and the seconds of the two `encoders`, the published one's under "naive_encoder" and ours "encoder".

    Every case runs once for its work and memory, then all in turns for their times.
    """
    answers, flops, peaks = {}, {}, {}

    def once(name: str) -> None:
        def call() -> None:
            answers[name] = cases[name]()

        flops[name] = measure.flops_of(call)

    for name in cases:
        peaks[name] = measure.peak_bytes(lambda name=name: once(name), device)
    torch.compiler.reset()  # counting operations turns compiled code off for good
    for name in [name for name in cases if name.endswith("_compiled")]:
        cases[name]()
    seconds = measure.interleaved_medians({**encoders, **cases}, device, runs)
    whole = {name: seconds[name] + seconds["naive_encoder" if "naive" in name else "encoder"] for name in cases}
    rows = {}
    for name, answer in answers.items():
        baseline = "naive_multiple_choice" if "multiple_choice" in name else "naive"
        without, with_encoder = seconds[baseline] / seconds[name], whole[baseline] / whole[name]
        rows[name] = DecodingRow(
            seconds=seconds[name],
            seconds_with_encoder=whole[name],
            ratio_to_naive=with_encoder if name.removesuffix("_compiled") in WITH_ENCODER else without,
            ratio_without_encoder=without,
            ratio_with_encoder=with_encoder,
            forward_passes=answer.forward_passes,
            tokens_per_second=len(answer.ids) / seconds[name],
            peak_mebibytes=peaks[name] / measure.MEBIBYTE,
            gigaflops=flops[name] / 1e9,
            share_of_limit=flops[name] / seconds[name] / limit,
            same_tokens=torch.equal(answer.ids, answers[baseline].ids),
        )
    return rows, {name: seconds[name] for name in encoders}


def table(rows: dict[str, DecodingRow]) -> str:
    header = [
        "", "ratio to naive", "seconds", "ratio", "with encoder", "ratio", "passes", "tokens/s", "peak MiB", "GFLOP",
        "of the limit", "same tokens",
    ]  # fmt: skip
    lines = [
        [
            name, f"{row.ratio_to_naive:.2f}", f"{row.seconds:.3f}", f"{row.ratio_without_encoder:.2f}",
            f"{row.seconds_with_encoder:.3f}", f"{row.ratio_with_encoder:.2f}", str(row.forward_passes),
            f"{row.tokens_per_second:.1f}", f"{row.peak_mebibytes:.0f}", f"{row.gigaflops:.0f}",
            f"{row.share_of_limit:.0%}", "yes" if row.same_tokens else "no",
        ]
        for name, row in rows.items()
    ]  # fmt: skip
    return format_table(header, lines)


def draw(args: argparse.Namespace, model: DIFFAModel, published: LLaDAModel, waveform: np.ndarray) -> None:
    """Seconds an answer against its length, encoder excluded; one run each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    llm, device = model.llm_model, model.device
    instruction = instruction_of(model.tokenizer, args.text_tokens)
    prompt = model.build_inputs([waveform], [instruction], MULTIPLE_CHOICE)
    audio = reference.audio_columns(model, prompt.inputs_embeds[0], instruction)
    seconds: dict[str, list[float]] = {}
    for length in LENGTHS:
        options = GenerationOptions(length, min(args.block_length, length), length)
        calls = {"naive": lambda options=options: by_naive(published, prompt, options, audio)}
        for name, mode in modes_of(options, args.tokens_per_pass).items():
            calls[name] = lambda mode=mode: by_sampler(llm, prompt, mode)
        for name, call in calls.items():
            seconds.setdefault(name, []).append(measure.seconds_of(call, device))
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, values in seconds.items():
        label = f"dual, {args.tokens_per_pass} tokens a pass" if name == "dual_parallel" else name
        axis.plot(LENGTHS, values, marker="o", label=label)
    axis.set(xlabel="answer length (tokens)", ylabel="seconds an answer", xscale="log", yscale="log")
    axis.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(args.plot, dpi=150)
    print(f"plot: {args.plot}")


def add_shape_flags(parser: argparse.ArgumentParser, d_model: int, n_layers: int) -> argparse._ArgumentGroup:
    """Flags for `random_model`, with these defaults."""
    shape = parser.add_argument_group("shape")
    shape.add_argument(
        "--d_model", type=int, default=d_model, help="of the LLM, a multiple of 64 (default: %(default)s)"
    )
    shape.add_argument("--n_layers", type=int, default=n_layers, help="of the LLM (default: %(default)s)")
    shape.add_argument("--vocabulary", type=int, default=126464, help="tokens (default: %(default)s)")
    shape.add_argument("--whisper", choices=WHISPER_SHAPES, default="small")
    return shape


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--plot", type=Path, help="draw seconds against answer length there")
    parser.add_argument("--runs", type=int, default=5, help="of each row, interleaved (default: %(default)s)")
    add_device_flags(parser)
    shape = add_shape_flags(parser, d_model=512, n_layers=8)
    shape.add_argument("--audio_seconds", type=float, default=10.0, help="(default: %(default)s)")
    shape.add_argument("--text_tokens", type=int, default=110, help="of the prompt (default: %(default)s)")
    answer = parser.add_argument_group("answer")
    answer.add_argument("--max_new_tokens", type=int, default=32, help="(default: %(default)s)")
    answer.add_argument("--steps", type=int, default=32, help="(default: %(default)s)")
    answer.add_argument("--block_length", type=int, default=16, help="(default: %(default)s)")
    answer.add_argument("--compile", action="store_true", help="also measure compiled blocks")
    answer.add_argument("--tokens_per_pass", type=int, default=4, help="of dual_parallel (default: %(default)s)")
    return parser.parse_args(argv)


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    device = device_of(args)
    precision = choose_precision(device, args.dtype)
    model = random_model(args, device, precision.dtype)
    waveform = np.random.default_rng(0).normal(0, 0.1, int(args.audio_seconds * SAMPLE_RATE)).astype(np.float32)
    limit = measure.matrix_product_limit(device, precision.dtype)
    instruction, published = instruction_of(model.tokenizer, args.text_tokens), as_published(model)
    encoders = {
        "naive_encoder": lambda: published.build_inputs([waveform], [instruction], MULTIPLE_CHOICE),
        "encoder": lambda: model.build_inputs([waveform], [instruction], MULTIPLE_CHOICE),
    }
    prompt = encoders["encoder"]()
    audio = reference.audio_columns(model, prompt.inputs_embeds[0], instruction)
    cases = cases_of(args, model.llm_model, published.llm_model, prompt, audio)
    run = measure.run_record(device, precision, args.runs, limit)
    for name in [name for name in cases if name.endswith("_compiled")]:
        run[f"seconds_of_first_{name}"] = measure.seconds_of(cases[name], device)  # the compiler's time in it
    rows, seconds = rows_of(cases, encoders, device, args.runs, limit)
    run |= {f"seconds_of_{name}": value for name, value in seconds.items()}
    run["ratio_of_encoder"] = seconds["naive_encoder"] / seconds["encoder"]
    measure.report(table(rows), {name: asdict(row) for name, row in rows.items()}, run, args.json)
    if args.plot:
        draw(args, model, published.llm_model, waveform)


if __name__ == "__main__":
    sys.exit(main())

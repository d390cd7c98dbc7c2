"""Prove the real size on this machine: LLaDA-8B's exact shape with random weights, one multiple-choice answer.

    python perf/full_size.py                      # 17 GB of disk, as much memory, no GPU needed
    python perf/full_size.py --device cuda --json full_size.json
    python perf/full_size.py --quantize int8      # the LLM's weights in 8 bits: 9 GB of memory
    python perf/full_size.py --lora_rank 8        # with random LoRA factors, as DIFFA-2 has, merged on the way
    python perf/full_size.py --layers 2           # a smaller model of the same width, to try it out

It writes a checkpoint in bf16 shards with an index, loads it beside a random Whisper-small and random adapters, answers
once, prints load time, peak resident memory and time per step, and deletes what it wrote.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from perf.measure import machine, resident_bytes, seconds_of
from src.configuration_DIFFA import SAMPLE_RATE, LLaDAConfig
from src.errors import UserError, reports_user_errors
from src.files import write_file
from src.inference_flags import device_of
from src.llm_generate import GenerationOptions
from src.lora import LORA_TARGETS, Factors, LoRA
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.prompts import mmsu_instruction
from src.quantization import BITS

TOKENIZER = Path(__file__).resolve().parents[1] / "demo" / "assets" / "llada"
LLADA_8B = {  # the fields of LLaDA-8B-Instruct's config.json that shape it
    "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288,
    "embedding_size": 126464, "vocab_size": 126464, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
    "max_sequence_length": 4096, "weight_tying": False, "mask_token_id": 126336, "eos_token_id": 126081,
    "pad_token_id": 126081,
}  # fmt: skip
WHISPER_SMALL = {
    "d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072,
    "decoder_layers": 1, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072,
}  # fmt: skip
WHISPER_LARGE = {  # large-v3
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "decoder_layers": 1, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "num_mel_bins": 128,
}  # fmt: skip
SHARD_BYTES = 5 * 10**9  # as the public shards
SPARE_DISK = 1.1  # of the weights' bytes must be free
GIGABYTE = 10**9
SECONDS_OF_AUDIO = 10
MULTIPLE_CHOICE = GenerationOptions(steps=4, block_length=4, max_new_tokens=4)  # MMSU's settings


def weight_shapes(config: dict) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in LLaDAModel(LLaDAConfig.from_dict(config)).state_dict().items()}


def write_llada(folder: Path, config: dict) -> int:
    """Write random bf16 weights in shards with an index, one shard in memory at a time; returns their bytes."""
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    total = held = 0

    def write() -> None:
        nonlocal held
        name = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
        shard.clear()
        held = 0

    for name, shape in weight_shapes(config).items():
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        tensor.fill_(1.0) if tensor.ndim == 1 else tensor.normal_(std=0.02)
        size = tensor.numel() * tensor.element_size()
        if held + size > SHARD_BYTES:
            write()
        shard[name] = tensor
        held, total = held + size, total + size
    write()
    write_file(
        folder / "model.safetensors.index.json",
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}),
    )
    write_file(folder / "config.json", json.dumps(config))
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / file, folder)  # the miniature's: its ids lie within the vocabulary
    return total


def write_whisper(folder: Path) -> None:
    config = WhisperConfig(**WHISPER_SMALL)
    encoder = WhisperEncoder(config)
    state = {f"model.encoder.{name}": tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)


def random_lora(config: dict, rank: int) -> LoRA:
    """Factors for the layers that DIFFA-2 updates."""
    return LoRA(
        {
            name: Factors(torch.randn(rank, shape[1]) * 0.02, torch.randn(shape[0], rank) * 0.02)
            for name, shape in weight_shapes(config).items()
            if name.split(".")[-2] in LORA_TARGETS
        }
    )


def measure(
    folder: Path, weight_bytes: int, device: torch.device, lora: LoRA | None, quantization: str | None
) -> dict[str, float]:
    """Load the two checkpoints, answer one item, and say what it took."""
    clock = time.perf_counter()
    model = DIFFAModel.from_frozen(
        folder / "llada", folder / "whisper", torch_dtype=torch.bfloat16, device=device, lora=lora,
        quantization=quantization, adapter_dtype=torch.bfloat16,
    )  # fmt: skip
    load_seconds, peak_loading = time.perf_counter() - clock, resident_bytes("VmHWM") / GIGABYTE
    waveform = np.random.default_rng(0).standard_normal(SECONDS_OF_AUDIO * SAMPLE_RATE).astype(np.float32) * 0.1
    instruction = mmsu_instruction("Which animal is named?", ["cat", "dog", "horse", "bird"])
    encoder_seconds = seconds_of(lambda: model.get_speech_features([waveform]), device)
    step_ends = [time.perf_counter()]
    for _ in model.decode([waveform], [instruction], MULTIPLE_CHOICE):
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # a step's end is not waited for otherwise
        step_ends.append(time.perf_counter())
    step_ends[0] += encoder_seconds  # the first step hears the clip once more
    steps = np.diff(step_ends)
    result = {
        "weights_gigabytes": weight_bytes / GIGABYTE,
        "load_seconds": load_seconds,
        "peak_loading_gigabytes": peak_loading,
        "resident_gigabytes": resident_bytes("VmRSS") / GIGABYTE,
        "encoder_and_adapters_seconds": encoder_seconds,
        "seconds_per_step": float(np.median(steps)),
        "answer_seconds": encoder_seconds + float(steps.sum()),
        "peak_resident_gigabytes": resident_bytes("VmHWM") / GIGABYTE,
    }
    result["peak_resident_to_weights"] = result["peak_resident_gigabytes"] / result["weights_gigabytes"]
    if device.type == "cuda":
        result["peak_gpu_gigabytes"] = torch.cuda.max_memory_allocated(device) / GIGABYTE
    return result


@reports_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the checkpoint (default: the temporary folder)")
    parser.add_argument("--layers", type=int, default=LLADA_8B["n_layers"], help="of the LLM (default: %(default)s)")
    parser.add_argument("--lora_rank", type=int, default=0, help="of random LoRA factors to merge (default: none)")
    parser.add_argument("--quantize", choices=tuple(BITS), help="round the LLM's weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    device = device_of(args)
    config = LLADA_8B | {"n_layers": args.layers}
    needed = 2 * sum(shape.numel() for shape in weight_shapes(config).values())
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="full_size_") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < SPARE_DISK * needed:
            raise UserError(
                f"{folder} has {free / GIGABYTE:.1f} GB free, the checkpoint needs "
                f"{SPARE_DISK * needed / GIGABYTE:.1f}: choose another place with --folder"
            )
        for part in ("llada", "whisper"):
            (folder / part).mkdir()
        clock = time.perf_counter()
        write_whisper(folder / "whisper")
        weight_bytes = write_llada(folder / "llada", config)
        print(f"{weight_bytes / GIGABYTE:.2f} GB written in {time.perf_counter() - clock:.0f} s", flush=True)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of writing
        lora = random_lora(config, args.lora_rank) if args.lora_rank else None
        result = measure(folder, weight_bytes, device, lora, args.quantize)
    for key, value in result.items():
        print(f"{key:32} {value:10.3f}")
    if args.json:
        write_file(args.json, json.dumps({**result, "machine": machine(device)}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

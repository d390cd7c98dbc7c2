"""What a run would do, without loading weights: updates, memory by arithmetic, disk, a batch in words (`--dry_run`)."""

import math
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from src.checkpoint import no_weights, read_json, resolve, weight_files
from src.configuration_DIFFA import IGNORE_INDEX, SAMPLE_RATE, STAGES, DIFFAConfig
from src.data_sampler import TrainingSampler
from src.dataloader import DIFFACollator, DIFFADataset, Example
from src.frozen_parts import check_frozen_parts, encoder_class, llm_class
from src.lora import attached, read_lora
from src.mixture import Mixture
from src.modeling_DIFFA import DIFFAModel
from src.preference_data import PairCollator
from src.preference_model import PreferenceModel
from src.training_arguments import DIFFATrainingArguments, ModelArguments, effective_batch_size, order_seed

ADAPTER_BYTES = 16  # a trained parameter: float32 weight, gradient and AdamW's two moments
SAVED_BYTES = 12  # of them in a checkpoint: all but the gradient
COMPARED_BYTES = 4  # more of a trained parameter in stage 4: the reference's
SUMMED_BYTES = 0.2e9  # in stage 4: gradient sums of both answers, in LoRA factors and audio embeddings
GATHERED_BYTES = 2e9  # layers that a process has whole just then, where frozen parts are shared out
SPARE_BYTES = 2.2e9  # a piece of logits, CUDA's own, the allocator's gaps: a guess (docs/training.md, Memory)
MAX_SHOWN = 3  # samples of the batch
MAX_CHARACTERS = 80  # of a text


def meta_model(args: ModelArguments) -> DIFFAModel:
    """The model that a run starts from, without memory for its weights; it is still to be prepared for training.

    Raises CheckpointError for parts that do not fit.
    """
    llm = resolve(args.llm_path, "the LLM (LLaDA)", "--llm_path")
    whisper = resolve(args.whisper_path, "the Whisper encoder", "--whisper_path")
    weight_files(llm), weight_files(whisper)  # complain about what is missing
    config, lora, stage = args.new_config(), None, STAGES[args.stage]
    if args.stage1_checkpoint:
        start = resolve(args.stage1_checkpoint, "the checkpoint to start from", "--stage1_checkpoint")
        weight_files(start)
        config = DIFFAConfig.from_dict(read_json(start / "config.json"))
        check_frozen_parts(config, args.llm_path, args.whisper_path)
        lora = read_lora(start, config.lora_alpha) if stage.lora else None
    classes = ((llm_class(llm), llm), (encoder_class(whisper), whisper))
    frozen = [(part, part.read_config(folder)) for part, folder in classes]
    with no_weights():
        model = (PreferenceModel if stage.prefers else DIFFAModel)(
            config,
            *(part(of_part) for part, of_part in frozen),
            PreTrainedTokenizerFast.from_pretrained(llm),
            WhisperFeatureExtractor.from_pretrained(whisper),
        )
        if lora:
            model.attach_lora(lora)
    return model


def steps_in_words(args: DIFFATrainingArguments, per_epoch: int, done: int) -> Iterator[str]:
    """How many updates, and when something is logged, saved or evaluated."""
    total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
    goes_on = f", {done} of them behind the last checkpoint: {max(total - done, 0)} left" if done else ""
    yield f"{per_epoch} updates an epoch, {total} in all, which is {total / per_epoch:.2f} epochs{goes_on}"
    warmup = args.get_warmup_steps(total)
    too_long = "; THE WARM-UP IS LONGER THAN THE RUN" if warmup >= total else ""
    yield f"learning rate {args.learning_rate:g}, {args.lr_scheduler_type.value}, warm-up {warmup} updates{too_long}"
    evaluated = {"no": "never", "epoch": "each epoch", "steps": f"every {args.eval_steps}"}[args.eval_strategy.value]
    saved = {"no": "never", "epoch": "each epoch", "steps": f"every {args.save_steps:g}"}[args.save_strategy.value]
    yield f"logged every {args.logging_steps:g} updates; saved {saved}; evaluated {evaluated}"


def memory_in_words(
    model: DIFFAModel, args: DIFFATrainingArguments, positions: int, sharing: str | None
) -> Iterator[str]:
    """By the arithmetic of docs/training.md, for a process; nothing is measured.

    Args:
        positions: of the LLM's input, for the longest clip with the longest text of the first batch.
        sharing: what shares out the frozen parts over the processes, if anything.
    """
    sizes = {trained: 0 for trained in (True, False)}
    for weight in model.parameters():
        sizes[weight.requires_grad] += weight.numel()
    yield f"{sizes[True] / 1e6:.4g} M of {sum(sizes.values()) / 1e6:.4g} M parameters are trained, the rest is frozen"
    prefers, batch = STAGES[model.stage].prefers, args.per_device_train_batch_size
    frozen = (sizes[False] - prefers * sizes[True]) * args.precision.dtype.itemsize  # stage 4's reference is no part
    if sharing:
        frozen = min(frozen, frozen / args.world_size + GATHERED_BYTES)
    at_rest, each = memory_of(model, args, positions, frozen, sizes[True])
    needed, trained = at_rest + batch * each, ADAPTER_BYTES * sizes[True]
    compared = f"reference, sums and a pass {gigabytes(at_rest - frozen - trained - SPARE_BYTES)}, " * prefers
    shared = f" (shared out over {args.world_size} processes by {sharing})" if sharing else ""
    yield (
        f"memory of a process, by arithmetic: {gigabytes(at_rest)} whatever the batch (frozen parts "
        f"{gigabytes(frozen)}{shared}, adapters and AdamW {gigabytes(trained)}, {compared}spare "
        f"{gigabytes(SPARE_BYTES)}), {batch} {'pairs' if prefers else 'clips'} of {positions} positions "
        f"{batch} x {gigabytes(each)}: {gigabytes(needed)}"
    )
    if args.device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(args.device)
        verdict = "fits" if needed < free else "DOES NOT FIT"
        yield f"{args.device} has {gigabytes(free)} of {gigabytes(whole)} free: {verdict}"


def memory_of(
    model: DIFFAModel, args: DIFFATrainingArguments, positions: int, frozen: float, trained: int
) -> tuple[float, float]:
    """`training_memory` of a model that is prepared for training."""
    width, encoder = args.precision.dtype.itemsize, model.whisper_model
    lora = len(attached(model.llm_model)[2]) if model.trains_lora else 0
    kept = bytes_of_clip(model.llm_model.config, positions, width, args.gradient_checkpointing, lora)
    frames = encoder.num_frames(model.feature_extractor.nb_max_frames)
    heads, queries = encoder.config.encoder_attention_heads, model.config.prompt_size
    heard = bytes_heard(frames, encoder.config.d_model, heads, len(model.states_read), queries, width)
    draws = min(args.vrpo_draws, args.vrpo_draws_at_once) if STAGES[model.stage].prefers else 0
    return training_memory(frozen, trained, kept, heard, draws)


def training_memory(frozen: float, trained: float, kept: float, heard: float, draws: int = 0) -> tuple[float, float]:
    """Bytes whatever the batch, and bytes for each of its clips, or pairs (docs/training.md, Memory).

    Args:
        frozen: bytes of the LLM and the encoder.
        trained: parameters.
        kept: bytes that the LLM keeps of a text's pass (`bytes_of_clip`).
        heard: bytes that the encoder and the adapters keep of a clip (`bytes_heard`).
        draws: in stage 4, how many texts are in a pass: as many whatever the batch. 0 in the other stages.
    """
    at_rest = frozen + ADAPTER_BYTES * trained + SPARE_BYTES
    if not draws:
        return at_rest, kept + heard
    return at_rest + COMPARED_BYTES * trained + SUMMED_BYTES + draws * kept, heard


def bytes_heard(frames: int, d: int, heads: int, targets: int, queries: int, width: int) -> float:
    """Of a clip, the encoder's hidden states that are read, and what the acoustic adapter attends to and how.

    At most: with --gradient_checkpointing keys, values and weights are not kept.

    Args:
        frames, d: of the encoder's states.
        targets: of them, those that the acoustic adapter reads; 0 in stage 1.
        width: bytes a number.
    """
    keys_and_values = 2 * 2 * width * d  # of two layers
    weights = 2 * (2 * width + 1) * queries * heads  # before and after dropout, and which fell out
    return frames * (width * d * (1 + targets) + targets * (keys_and_values + weights))


def bytes_of_clip(llm: Any, positions: int, width: int, checkpointing: bool, lora_layers: int = 0) -> float:
    """What the LLM's blocks keep of one clip for the backward pass (docs/training.md, Memory).

    A block keeps its norms' two inputs (on a GPU, whose norm is one kernel; a CPU keeps them in float32); queries,
    keys, values and attention's result; and the two factors of the gated feed-forward part, `width` bytes each number;
    for each of `lora_layers` with LoRA factors, what goes into them, and a byte for what fell out. With checkpointing,
    its own input, and one block in full. Backward holds four gradients of one feed-forward part at a time.

    Args:
        llm: the LLM's config, of which `n_layers`, `d_model` and `mlp_hidden_size` are read.
    """
    feed_forward = llm.mlp_hidden_size / llm.d_model * width
    block = (2 + 4) * width + 2 * feed_forward + lora_layers * (width + 1)
    kept = width * llm.n_layers + block if checkpointing else block * llm.n_layers
    return (kept + 4 * feed_forward) * positions * llm.d_model


def gigabytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB"


def disk_in_words(model: DIFFAModel, args: DIFFATrainingArguments) -> str:
    """What checkpoints take, and what is free where they will lie."""
    size = SAVED_BYTES * sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    limit, folder = args.save_total_limit, Path(args.output_dir).absolute()
    kept = f"{limit} of them stay, and one more while it is written" if limit else "all stay"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    return f"a checkpoint takes {gigabytes(size)} in {args.output_dir}; {kept}; {gigabytes(free)} are free there"


def batch_in_words(dataset: DIFFADataset, collator: DIFFACollator, examples: Sequence[Example]) -> Iterator[str]:
    """The first batch as the model gets it; its masks are those of the run."""
    batch, tokenizer = collator(examples), dataset.tokenizer
    rows, tokens = batch["input_ids"].shape
    masked = batch["labels"] != IGNORE_INDEX
    yield (
        f"the first batch: {rows} clips, features {list(batch['input_features'].shape)}, texts of {tokens} tokens, "
        f"{int(batch['num_answer_tokens'])} of which may be masked and {int(masked.sum())} are"
    )
    for row, example in enumerate(examples[:MAX_SHOWN]):
        sample, prompt = dataset.samples[example.index], len(example.prompt_ids)
        seen = tokenizer.decode(batch["input_ids"][row, prompt : prompt + len(example.answer_ids)])
        yield (
            f"  {example.audio_id}: {len(example.waveform) / SAMPLE_RATE:.2f} s of {sample.audio_filepath.name}; asked "
            f"{shown(sample.input)}; to learn {shown(sample.target)}; masked at rate {batch['t'][row]:.3f}: "
            f"{shown(seen)}"
        )


def pairs_in_words(dataset: DIFFADataset, collator: PairCollator, examples: Sequence[Example]) -> Iterator[str]:
    """The first batch of pairs as the model gets it; its masks are those of the run."""
    batch = collator(examples)
    _, draws, rows, tokens = batch["input_ids"].shape
    yield (
        f"the first batch: {rows} pairs, features {list(batch['input_features'].shape)}, texts of {tokens} tokens, "
        f"{draws} draws of masks for each answer"
    )
    for row, example in enumerate(examples[:MAX_SHOWN]):
        sample = dataset.samples[example.index]
        rates = " and ".join(" ".join(f"{rate:.3f}" for rate in side[:, row].tolist()) for side in batch["t"])
        yield (
            f"  {example.audio_id}: {len(example.waveform) / SAMPLE_RATE:.2f} s of {sample.audio_filepath.name}; asked "
            f"{shown(sample.input)}; to prefer {shown(sample.target)} to {shown(sample.rejected)}; masked at rates "
            f"{rates}"
        )


def shown(text: str) -> str:
    return repr(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}...")


def plan(
    model: DIFFAModel,
    args: DIFFATrainingArguments,
    dataset: DIFFADataset,
    mixture: Mixture,
    collator: DIFFACollator | PairCollator,
    done: int,
    sharing: str | None,
) -> str:
    """All of it, as text. Raises AudioError, ManifestError for a first batch that cannot be made.

    Args:
        model: as `meta_model` returns it, prepared for training.
        mixture: how samples are drawn.
        done: updates behind the checkpoint that the run would go on from.
        sharing: see `memory_in_words`.
    """
    lengths = dataset.lengths() if args.group_by_length else None
    clips = effective_batch_size(args)
    sampler = TrainingSampler(len(dataset), clips, order_seed(args), args.time_sampling, lengths, mixture)
    examples = [dataset[draw] for draw in islice(sampler, args.per_device_train_batch_size)]
    longest = max(min(sample.duration, dataset.max_seconds) for sample in dataset.samples)
    texts = max(len(e.prompt_ids) + max(len(e.answer_ids), len(e.rejected_ids or ())) for e in examples)
    in_words = pairs_in_words if STAGES[model.stage].prefers else batch_in_words
    positions = model.num_audio_embeddings(round(longest * SAMPLE_RATE)) + texts
    update = f"{args.world_size} processes x {args.per_device_train_batch_size} x {args.gradient_accumulation_steps}"
    lines = [
        f"{len(dataset)} samples, {sum(s.duration for s in dataset.samples) / 3600:.2f} hours; effective batch size "
        f"{clips} = {update} (processes x clips x accumulation)",
        *steps_in_words(args, len(sampler) // clips, done),
        *memory_in_words(model, args, positions, sharing),
        disk_in_words(model, args),
        *in_words(dataset, collator, examples),
        "dry run: nothing was trained, nothing was written",
    ]
    return "\n".join(lines)

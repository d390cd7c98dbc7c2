"""What the inference scripts share: loading, batching, resuming, writing.

Started plainly, or data-parallel by `python -m torch.distributed.run --nproc_per_node N SCRIPT ...`: every rank answers
its share of the items, and the first one puts the answers together.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from evaluation.journal import AnswerRecord, Journal, ResumeError, meta_path, partial_files, remove_answers
from evaluation.parquet_audio import ParquetAudio
from evaluation.prefetch import Sounds, batches_of, identity_of, new_readers, read_ahead, read_sounds, reading_order
from evaluation.tasks import BenchmarkItem, Task, swap, with_settings
from src.audio import AudioError
from src.checkpoint import CheckpointError, read_json, resolve
from src.configuration_DIFFA import STAGES, DIFFAConfig
from src.errors import reports_user_errors
from src.family import describe, read_family
from src.files import check_outputs
from src.inference_flags import device_of, options_of
from src.modeling_DIFFA import Answers, DIFFAModel
from src.precision import Precision, choose_precision
from src.processes import Ranks, leave
from src.provenance import fingerprint, git_state, versions
from src.quantization import told

# --- the model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """The paths of the model's parts, the stage it works in, and its family."""

    diffa: Path
    llm: Path
    whisper: Path
    stage: int
    family: str

    @classmethod
    def find(cls, args: argparse.Namespace, stage: int | None) -> "Parts":
        """By the flags and by what the checkpoint remembers. Raises CheckpointError for a folder that is missing."""
        diffa = resolve(args.model_path, "the DIFFA checkpoint", "--model_path")
        config = DIFFAConfig.from_dict(read_json(diffa / "config.json"))
        return cls(
            diffa,
            resolve(args.llm_path or config.llm_model_id, "the LLM (LLaDA)", "--llm_path"),
            resolve(args.whisper_path or config.whisper_model_id, "the Whisper encoder", "--whisper_path"),
            stage or config.stage or 1,
            read_family(diffa),
        )

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """What tells whether answers come from the same model."""
        return {
            "checkpoint": fingerprint(self.diffa, weights=True),
            "llm": fingerprint(self.llm, weights=False),
            "whisper": fingerprint(self.whisper, weights=False),
        }

    def load(self, precision: Precision, device: torch.device, args: argparse.Namespace, tells: bool) -> DIFFAModel:
        """The model of the flags; with `tells`, what it is, is printed.

        Raises CheckpointError when the parts do not fit, or the checkpoint lacks an adapter of the stage.
        """
        parts = (self.diffa, self.llm, self.whisper)
        model = DIFFAModel.from_pretrained(
            *parts, precision.dtype, device, use_lora=args.use_lora, quantization=args.quantize
        )
        if tells:
            print(f"{self.diffa} is {describe(model.config, model.lora)}\n{precision}", file=sys.stderr)
            if args.quantize:
                print(told(args.quantize), file=sys.stderr)
        lacking = [name for name in STAGES[self.stage].trains if name not in model.saved_modules]
        if lacking:
            raise CheckpointError(
                f"{self.diffa} holds no {' and no '.join(lacking)}, which stage {self.stage} needs: "
                f"pass a checkpoint of stage {self.stage} with --model_path"
            )
        model.stage = self.stage
        return model


# --- answering -----------------------------------------------------------------------------------------------------


@reports_user_errors
def run(args: argparse.Namespace, make_tasks: Callable[[], list[Task]], stage: int | None = 2) -> int:
    """Answer every task, and return the exit status: 0, 1 (too many items failed), or 2 (could not start).

    `make_tasks` reads and checks the input; `stage` of the model, None for the one the checkpoint was trained in.
    Input, options and earlier answers are all checked before the model is loaded.
    """
    runner = Runner(args, stage)
    tasks = make_tasks()
    check_files(args, tasks)
    runner.prepare(tasks)
    too_many_failed = [runner.answer(task) for task in tasks]
    status = int(any(too_many_failed))
    if runner.ranks.world > 1:
        leave(status)
    return status


def check_files(args: argparse.Namespace, tasks: Sequence[Task]) -> None:
    """Raise OutputError where a task's answers cannot be written, or would be written over what it reads."""
    for task in tasks:
        audio = {item.audio.file if isinstance(item.audio, ParquetAudio) else item.audio for item in task.items}
        outputs = [task.output, meta_path(task.output), *partial_files(task.output), getattr(args, "output_text", None)]
        check_outputs(outputs, [*task.inputs, *audio])


class Runner:
    """Answers tasks with one model, which is loaded when the first answer is due."""

    def __init__(self, args: argparse.Namespace, stage: int | None) -> None:
        self.args, self.device = args, device_of(args)
        self.precision = choose_precision(self.device, args.dtype)
        self.ranks = Ranks.join()
        self.requested_stage = stage

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Find the model's parts and settings, and check that earlier answers, if any, were made in the same way."""
        self.parts = Parts.find(self.args, self.requested_stage)
        self.args = with_settings(self.args, tasks[0].benchmark, self.parts.family)
        self.options = options_of(self.args)
        self.fingerprints = self.parts.fingerprints()
        if self.args.overwrite:
            _ = self.model  # answers are not discarded for a model that cannot be loaded
            self.ranks.wait()
            for task in tasks if self.ranks.rank == 0 else ():
                remove_answers(task.output)
        self.ranks.wait()
        for task in tasks:
            self.check_limit(task, self.open(task))

    @cached_property
    def model(self) -> DIFFAModel:
        model = self.parts.load(self.precision, self.device, self.args, tells=self.ranks.rank == 0)
        model.system_prompt = self.args.system_prompt
        if self.args.compile:
            model.llm_model.compile_blocks()
        return model

    def open(self, task: Task) -> Journal:
        """What is on disk of `task`'s answers. Raises ResumeError if it was made in another way, or of other audio."""
        questions = [[item.instruction, item.record] for item in task.items]
        settings = {
            **asdict(self.options),
            "dtype": self.precision.name,
            "quantize": self.args.quantize,
            "stage": self.parts.stage,
            "system_prompt": self.args.system_prompt,
            "swap_audio": self.args.swap_audio,
            "compile": self.args.compile,  # another order of operations: nearly equal tokens can change places
            "input": hashlib.sha256(json.dumps(questions, sort_keys=True, default=str).encode()).hexdigest(),
            **{f"{part} {file}": value for part, files in self.fingerprints.items() for file, value in files.items()},
        }
        fields, as_list = task.benchmark.answer_fields, task.benchmark.as_list
        journal = Journal(task.output, fields, settings, as_list, self.ranks.rank, self.ranks.world)
        audio = self.audio_of(task)
        heard = {index: answer.audio for index, answer in sorted(journal.answers.items()) if answer.audio}
        others = [index for index, identity in heard.items() if identity != identity_of(audio[index])]
        if others:
            raise ResumeError(
                f"{task.output} holds answers to other audio: of {len(others)} of {len(heard)} items, the first being "
                f"item {others[0] + 1}, {audio[others[0]]}. Pass the audio they were made of (--audio_root), choose "
                "another output, or pass --overwrite to start afresh"
            )
        return journal

    def check_limit(self, task: Task, journal: Journal) -> None:
        """Raise ResumeError where answers that are on disk would be lost to `--limit`: the output ends there."""
        limit = self.args.limit or len(task.items)
        beyond = [index for index in journal.answers if index >= limit and not journal.is_missing(index)]
        unfinished = partial_files(task.output) or any(map(journal.is_missing, range(min(limit, len(task.items)))))
        if beyond and unfinished:
            raise ResumeError(
                f"{task.output} has answers to {len(beyond)} item(s) beyond --limit {limit}, which an output of "
                f"{limit} would lose. Choose another output, or leave --limit out to answer what is still missing"
            )

    def audio_of(self, task: Task) -> list[Path | ParquetAudio]:
        """The audio that each item is answered from: its own, or with `--swap_audio` another one's."""
        audio = [item.audio for item in task.items]
        return [audio[other] for other in swap(len(audio), self.args.seed)] if self.args.swap_audio else audio

    def answer(self, task: Task) -> bool:
        """Answer what is missing, write the output, say what failed; True when too much did."""
        started, clock, journal = datetime.now(timezone.utc), time.perf_counter(), self.open(task)
        audio = self.audio_of(task)
        items = [replace(item, audio=audio[n]) for n, item in enumerate(task.items[: self.args.limit])]
        missing = [index for index in range(len(items)) if journal.is_missing(index)]
        if not missing and task.output.exists() and not partial_files(task.output):
            if self.ranks.rank == 0:
                print(f"{len(items)} of {len(items)} items answered before: {task.output}")
                if task.finished:
                    task.finished(task.output)
            return False
        throughput = self.answer_items(items, journal)
        seconds = time.perf_counter() - clock
        speed = throughput.speed(self.ranks)  # which also waits for the other ranks
        if self.ranks.rank > 0:
            return False
        if self.ranks.world > 1:
            journal = self.open(task)  # with the other ranks' answers
        absent = [index for index in range(len(items)) if index not in journal.answers]
        if absent:
            raise ResumeError(
                f"{len(absent)} answers of other processes are not beside {task.output}: its folder must be one that "
                "all machines see. Copy their .partial files there and start again"
            )
        errors = [journal.answers[index].error for index in range(len(items)) if journal.is_missing(index)]
        journal.finish(
            [item.record for item in items],
            {
                **(task.about or {}),
                "options": {name: str(v) if isinstance(v, Path) else v for name, v in vars(self.args).items()},
                "parts": {name: str(value) for name, value in asdict(self.parts).items()},
                **git_state(),
                "versions": versions(),
                "device": device_name(self.device),
                "precision": asdict(self.precision),
                "ranks": self.ranks.world,
                "started": started.isoformat(timespec="seconds"),
                "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "items": len(items),
                "errors": len(errors),
                "answered_in_this_run": len(missing),
                "items_per_second": round(len(missing) / seconds, 3),  # loading the model included
                **speed,
            },
        )
        if task.finished:
            task.finished(task.output)
        print(f"{len(items) - len(errors)} of {len(items)} items answered: {task.output}")
        for error in errors:
            print(f"no answer: {error}", file=sys.stderr)
        return len(errors) > self.args.max_error_rate * len(items)

    def answer_items(self, items: Sequence[BenchmarkItem], journal: Journal) -> "Throughput":
        """Answer this rank's share of what is missing, batch by batch, each on disk as soon as it is made."""
        throughput = Throughput()
        audio = [item.audio for item in items]
        order = reading_order(audio)
        mine = [index for index in order[self.ranks.rank :: self.ranks.world] if journal.is_missing(index)]
        if not mine:
            return throughput
        _ = self.model  # loading takes a while, in which another run may begin
        journal.check_others()
        batches = batches_of(mine, audio, self.args.batch_size)

        def read(batch: list[int]) -> Sounds:
            clips, names = [audio[index] for index in batch], [f"audio of item {index + 1}" for index in batch]
            return read_sounds(clips, names, self.model.feature_extractor, readers)

        bar = tqdm(total=len(mine), unit="item", desc=journal.output.name, disable=self.ranks.rank > 0)
        with bar, new_readers() as readers:
            for batch, sounds in read_ahead(batches, read):
                pairs = zip(batch, sounds.waveforms, strict=True)
                answers = {index: AnswerRecord("", str(w)) for index, w in pairs if isinstance(w, AudioError)}
                if heard := [batch[place] for place in sounds.heard]:
                    clock = time.perf_counter()
                    answered = self.answer_batch(sounds, [items[index].instruction for index in heard])
                    throughput.add(answered, time.perf_counter() - clock)
                    for index, text in zip(heard, answered.texts, strict=True):
                        answers[index] = AnswerRecord(text, audio=identity_of(audio[index]))
                journal.append(answers)
                bar.update(len(batch))
        return throughput

    def answer_batch(self, sounds: Sounds, instructions: Sequence[str]) -> Answers:
        """Answer one instruction about each sound that can be heard; a clip is encoded once, whoever asks about it."""
        embeds, lengths = self.model.embed_features(sounds.input_features, sounds.feature_attention_mask)
        clips = torch.tensor(sounds.clips, device=embeds.device)
        waveforms = [sounds.waveforms[place] for place in sounds.heard]
        return self.model.answer(waveforms, instructions, self.options, (embeds[clips], lengths[clips]))


@dataclass
class Throughput:
    """What was answered in this run on this rank, and how long it took."""

    items: int = 0
    forward_passes: int = 0
    tokens: int = 0  # of the answers' texts; end tokens do not count
    fixed: int = 0  # tokens that forward passes fixed, end tokens included
    seconds: float = 0.0  # in the model alone

    def add(self, answers: Answers, seconds: float) -> None:
        self.items += len(answers.texts)
        self.forward_passes += sum(answers.forward_passes)
        self.tokens += sum(answers.num_tokens)
        self.fixed += sum(answers.num_fixed)
        self.seconds += seconds

    def speed(self, ranks: Ranks) -> dict[str, float | None]:
        """Figures over all ranks, which work side by side; None where nothing was answered."""
        counted = [self.items, self.forward_passes, self.tokens, self.fixed, self.seconds]
        items, passes, tokens, fixed, seconds = ranks.total(counted)
        return {
            "forward_passes_per_item": round(passes / items, 3) if items else None,
            "tokens_per_item": round(tokens / items, 3) if items else None,
            "fixed_tokens_per_item": round(fixed / items, 3) if items else None,
            "tokens_per_second": round(tokens * ranks.world / seconds, 3) if items else None,
        }


def device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)

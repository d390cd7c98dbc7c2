"""The trainer of both stages: steps, evaluations, fault tolerance (unusable clips, infinite losses, stop requests)."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import EvalLoopOutput, SaveStrategy, TrainOutput

from src.adapter_trainer import AdapterTrainer
from src.data_sampler import EvaluationSampler, TrainingSampler
from src.dataloader import ORIGIN, Origin, OriginCollator
from src.errors import UserError
from src.eval_wer import transcribe
from src.manifest import Sample
from src.masked_diffusion import DiffusionOutput, share_denominator, validation_loss
from src.mixture import Mixture
from src.text_normalisation import normalisation_of
from src.training_arguments import effective_batch_size, order_seed
from src.training_meter import TrainingMeter, correct_runtime
from src.training_readers import deaf_to_stop_signals, readers_end_with_training
from src.training_run import evaluation_is_due, find_best
from src.training_settings import Settings
from src.word_errors import total

logger = logging.getLogger(__name__)


class TrainingError(UserError):
    """Training cannot go on; the message says why, and what to do."""


class StopRequested(Exception):
    """Some process was asked to stop in the middle of an evaluation."""


class dLLMTrainer(AdapterTrainer):
    """Trains a `DIFFAModel` whose `forward` returns the diffusion loss, on a `DIFFADataset`.

    Args (besides Trainer's):
        time_sampling: see `TrainingSampler`.
        loss_normalization: "published": each batch's loss by its own answer tokens, padded to its own longest text;
            "update": by those of all batches of an optimizer step, on all processes, padded to the longest of these,
            so that nothing depends on how the effective batch size comes about.
        max_bad_fraction: of the clips, how many may be unusable before training stops.
        wer_samples: what each evaluation transcribes, for `eval_wer`; not under ZeRO-3 or FSDP, where a process alone
            holds no whole model to answer with.
        settings: of the run, written into each checkpoint.
        eval_name: what to call the evaluation set in messages.
        mixture: how the training samples of several manifests are drawn; None for all of them every epoch.

    Attributes:
        stop_requested: set it (from a signal handler, say) to have a checkpoint written after the current step, or
            batch of an evaluation, and training ended; it is enough that one process is asked.
        stopped: whether that is how training ended.
    """

    def __init__(
        self,
        *args,
        time_sampling: str = "uniform",
        loss_normalization: str = "published",
        max_bad_fraction: float = 0.001,
        wer_samples: Sequence[Sample] = (),
        settings: Settings | None = None,
        eval_name: str | None = None,
        mixture: Mixture | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.time_sampling = time_sampling
        self.loss_normalization = loss_normalization
        self.max_bad_fraction = max_bad_fraction
        self.stop_requested = self.stopped = False
        self.resumed_from: str | None = None  # the checkpoint that this process went on from
        self.starts: dict[str, float] = {}  # of training and of the last evaluation, by a clock that nobody sets
        self.unusable: set[str] = set()  # clips, by what was wrong with them; all processes'
        self.new_failures: list[str] = []  # this process's, since the last step
        self.wer_samples = wer_samples
        self.settings = settings or {}
        self.eval_name = eval_name
        self.mixture = mixture
        self.makes_up_evaluation = False
        self.eval_losses: dict[int, tuple[float, int]] = {}  # this process's, by sample: sum of CE / t', answer tokens
        self.eval_failures: list[str] = []  # this process's, in the evaluation that goes on
        self.known_eval_failures: set[str] = set()  # all processes'
        self.meter = TrainingMeter(self.args.device, self.model.feature_extractor.hop_length)

    # -- data ---------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        return deaf_to_stop_signals(super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        return deaf_to_stop_signals(super().get_eval_dataloader(eval_dataset))

    def _get_collator_with_removed_columns(self, data_collator: Callable, description: str | None = None) -> Callable:
        if description == "evaluation":
            data_collator = data_collator.for_evaluation()
        return OriginCollator(data_collator)

    def _get_train_sampler(self) -> TrainingSampler:
        args = self.args
        return TrainingSampler(
            len(self.train_dataset),
            effective_batch_size(args),
            order_seed(args),
            self.time_sampling,
            self.train_dataset.lengths() if args.group_by_length else None,
            self.mixture,
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> EvaluationSampler:
        return EvaluationSampler(len(eval_dataset))

    # -- steps --------------------------------------------------------------------------------------------------------

    def planned_steps(self) -> int:
        """Optimizer steps of the whole run, as the arguments have it."""
        args = self.args
        return self.set_initial_training_values(args, self.get_train_dataloader(), effective_batch_size(args))[-1]

    @staticmethod
    def state_of(checkpoint: str) -> TrainerState:
        """What Trainer keeps beside the weights of a checkpoint folder."""
        return TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))

    @classmethod
    def steps_done(cls, checkpoint: str) -> int:
        """Optimizer steps behind a checkpoint folder."""
        return cls.state_of(checkpoint).global_step

    def _inner_training_loop(self, batch_size: int | None = None, **kwargs) -> TrainOutput | None:
        """With the batch size of the flags (Trainer goes on with the checkpoint's); None if stopped before a step."""
        self.starts = {"train": time.perf_counter()}
        self.resumed_from = kwargs.get("resume_from_checkpoint")
        try:
            with readers_end_with_training():
                return super()._inner_training_loop(batch_size=self.args.train_batch_size, **kwargs)
        except StopRequested:  # in --eval_on_start: there is nothing new to write
            self.stopped = True

    def compare_trainer_and_checkpoint_args(self, args: TrainingArguments, state: TrainerState) -> None:
        """The intervals of the flags (Trainer goes on with the checkpoint's, with a warning where they differ), and the
        best checkpoint where it lies now.
        """
        planned = self.planned_steps()
        state.compute_steps(args, planned)
        self.locate_best(state, self.resumed_from)
        self.makes_up_evaluation = evaluation_is_due(args, state, planned)
        args.eval_on_start |= self.makes_up_evaluation

    def locate_best(self, state: TrainerState, checkpoint: str) -> None:
        """By the checkpoint that brought the state: folders may have been moved, or be called otherwise, since."""
        folder, output_dir = os.path.dirname(checkpoint), self.args.output_dir
        if os.path.exists(output_dir) and os.path.samefile(folder or ".", output_dir):
            checkpoint = os.path.join(output_dir, os.path.basename(checkpoint))  # as Trainer calls those that it keeps
        told = find_best(state, Path(checkpoint))
        if told and self.is_world_process_zero():
            logger.warning(told)

    def _evaluate(self, trial: Any, *args, **kwargs) -> dict[str, float]:
        """In a resumed run first the evaluation that a request to stop prevented; its checkpoint may be the best."""
        metrics = super()._evaluate(trial, *args, **kwargs)
        step = self.state.global_step
        by_epoch = self.args.save_strategy == SaveStrategy.EPOCH  # then so are evaluations: at its end, as this one
        saved = by_epoch or step % self.state.save_steps == 0 or step >= self.state.max_steps
        if self.makes_up_evaluation and saved:
            super()._determine_best_metric(metrics, trial)
        self.makes_up_evaluation = False
        return metrics

    def make_up_last_evaluation(self) -> None:
        """After the last step, as `_evaluate` does before others; not under DeepSpeed, which evaluates in training."""
        due = evaluation_is_due(self.args, self.state, self.planned_steps())
        self.makes_up_evaluation = due and not self.is_deepspeed_enabled
        if self.makes_up_evaluation:
            try:
                with readers_end_with_training():
                    self._evaluate(None, None, skip_scheduler=True)
            except StopRequested:  # the next start makes it up
                self.stopped = True

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """To the device, all in their own precision: with DeepSpeed, Trainer would round masking rates to 16 bits."""
        device = self.args.device
        return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in inputs.items()}

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """This process's batches of an update."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches)
        if self.loss_normalization == "update" and batches:
            self.normalize_by_update(batches)
        return batches, num_items

    def normalize_by_update(self, batches: Sequence[dict[str, Any]]) -> None:
        """Pad the batches of an update to its longest text, and give them its answer tokens, of all processes."""
        device = self.args.device
        longest = torch.tensor([max(batch["input_ids"].shape[1] for batch in batches)], device=device)
        longest = int(self.accelerator.gather(longest).max())
        for batch in batches:
            self.data_collator.lengthen(batch, longest)
        answer_tokens = torch.stack([batch["num_answer_tokens"] for batch in batches]).sum().to(device)
        answer_tokens = int(self.accelerator.reduce(answer_tokens, "sum"))
        share = share_denominator(answer_tokens, len(batches) * self.args.world_size)
        for batch in batches:
            batch["num_answer_tokens"] = torch.tensor(share, device=device)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, DiffusionOutput]:
        """Raises TrainingError for a loss that is not finite, naming the batch's samples."""
        origin: Origin = inputs.pop(ORIGIN)
        training = self.model.training  # not `model`'s: DeepSpeed's engine always says True
        (self.new_failures if training else self.eval_failures).extend(origin.failures)
        outputs = model(**inputs)
        if not torch.isfinite(outputs.loss):
            rates = zip(origin.audio_ids, inputs["t"].movedim(-1, 0).tolist(), strict=True)
            raise TrainingError(
                f"step {self.state.global_step + 1}: the loss is {outputs.loss.item()}, of a batch of the samples "
                f"{', '.join(f'{name} (masking rate {told(t)})' for name, t in rates)}. Listen to them and read their "
                "targets; if they are sound, lower the learning rate"
            )
        if training:
            self.count_training(inputs, outputs)
        else:
            self.count_evaluation(origin, outputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def count_training(self, inputs: dict[str, Any], outputs: DiffusionOutput) -> None:
        self.meter.add(inputs, outputs.sample_losses.detach() * inputs["t"])  # unweighted: a sample has one t'

    def count_evaluation(self, origin: Origin, outputs: DiffusionOutput) -> None:
        found = zip(origin.indices, outputs.sample_losses.tolist(), origin.answer_tokens, strict=True)
        self.eval_losses |= {index: (loss, tokens) for index, loss, tokens in found if index is not None}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for split, start in self.starts.items():
            correct_runtime(logs, split, time.perf_counter() - start)
        if "learning_rate" in logs:  # a training step's, of all processes
            logs |= self.meter.read(lambda sums: self.accelerator.reduce(sums, "sum"))
            if self.unusable:
                logs["unusable_clips"] = len(self.unusable)
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *args, **kwargs) -> None:
        """After each step: first tell the other processes of requests to stop and unusable clips."""
        self.synchronise()
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except StopRequested:
            self.stop()
            super()._maybe_log_save_evaluate(*args, **kwargs)  # what is left of it: the checkpoint

    def synchronise(self) -> None:
        """Stop if one process was asked to; count the clips that could not be used.

        Raises TrainingError once they are too many.
        """
        counts = torch.tensor([self.stop_requested, len(self.new_failures)], device=self.args.device)
        stop, failed = self.accelerator.reduce(counts, "sum").tolist()
        if stop and not self.control.should_training_stop:
            self.stop()
        if failed:
            for message in gather_object(self.new_failures):
                if message not in self.unusable and self.is_world_process_zero():
                    logger.warning("clip replaced by another one: %s", message)
                self.unusable.add(message)
            self.new_failures = []
            total = len(self.train_dataset)
            if len(self.unusable) > self.max_bad_fraction * total:
                raise TrainingError(
                    f"{len(self.unusable)} of {total} clips cannot be used, more than --max_bad_fraction "
                    f"{self.max_bad_fraction:g} allows. The warnings above name them: mend them or take them out of "
                    "the manifest, or allow more"
                )

    def stop(self) -> None:
        """Have Trainer write a checkpoint and end."""
        self.stopped = self.control.should_save = self.control.should_training_stop = True
        self.control.should_evaluate = False  # there may be no time for it before the checkpoint

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs) -> EvalLoopOutput:
        """Trainer's, with its own loss and word error rate; training goes on afterwards as if there had been none."""
        clock, training = time.perf_counter(), self.model.training
        self.starts[metric_key_prefix] = clock
        try:
            with unchanged_random_state(self.args.device):
                output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
                metrics = self.validation_loss() | self.word_error_rate() | self.unusable_eval_clips()
        finally:  # also when asked to stop
            self.eval_losses, self.eval_failures = {}, []
            self.model_wrapped.train(training)
            self.meter.leave_out(time.perf_counter() - clock)
        if math.isinf(metrics["loss"]) and self.is_world_process_zero():
            logger.warning("evaluation set %s: not one of its samples can be used; training goes on", self.eval_name)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def _determine_best_metric(self, *args, **kwargs) -> bool:
        """Of the evaluations after which a checkpoint is written: the best of the others could not be loaded."""
        return self.control.should_save and super()._determine_best_metric(*args, **kwargs)

    def prediction_step(self, *args, **kwargs) -> tuple:
        """A batch of an evaluation. Raises StopRequested."""
        self.check_stop()
        return super().prediction_step(*args, **kwargs)

    def check_stop(self) -> None:
        """Raise StopRequested, on all processes, where one was asked to stop."""
        asked = torch.tensor(self.stop_requested, device=self.args.device, dtype=torch.int64)
        if self.accelerator.reduce(asked, "sum"):
            raise StopRequested

    def validation_loss(self) -> dict[str, float]:
        """`loss` of the whole set: every sample counts once, without padding, as it would alone.

        Clips that cannot be used do not count.
        """
        # processes may share samples, to have equally many
        found = {index: sums for losses in gather_object([self.eval_losses]) for index, sums in losses.items()}
        return {"loss": validation_loss(found.values())}

    def word_error_rate(self) -> dict[str, float]:
        """`wer` of `wer_samples` (errors by words said, may exceed 1); each process transcribes its share of them.

        Infinite, so that it is never the best, where none can be used; not told where there are none.
        """
        if not self.wer_samples:
            return {}
        args, model = self.args, self.accelerator.unwrap_model(self.model)
        share = self.wer_samples[args.process_index :: args.world_size]
        normalise = normalisation_of(sample.transcription for sample in self.wer_samples)
        size, mine = args.eval_batch_size, []
        for start in range(0, math.ceil(len(self.wer_samples) / args.world_size), size):  # as often on each process
            self.check_stop()
            found = transcribe(model, share[start : start + size], self.eval_dataset.max_seconds, normalise)
            self.eval_failures.extend(found.failures)
            mine += found.words
        words = [edits for of_process in gather_object([mine]) for edits in of_process]
        return {"wer": total(words).rate if words else math.inf}

    def unusable_eval_clips(self) -> dict[str, int]:
        """How many clips this evaluation could not use; what was wrong with each is logged once."""
        failures = set(gather_object(self.eval_failures))
        if self.is_world_process_zero():
            for message in sorted(failures - self.known_eval_failures):
                logger.warning("clip left out of the evaluation: %s", message)
        self.known_eval_failures |= failures
        return {"unusable_clips": len(failures)} if failures else {}


def told(rates: float | list) -> str:
    """Masking rates of a sample, in words."""
    return f"{rates:.3f}" if isinstance(rates, float) else " ".join(map(told, rates))


@contextmanager
def unchanged_random_state(device: torch.device) -> Iterator[None]:
    """Afterwards torch's random state is what it was: each evaluation's loader draws from it, for one."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield

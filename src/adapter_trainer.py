"""`transformers.Trainer` with checkpoints of the trained adapters alone, each complete or not there at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SAFE_WEIGHTS_NAME, SCHEDULER_NAME

from src.checkpoint import CheckpointError
from src.files import write_file
from src.lora import published_name
from src.modeling_DIFFA import DIFFAModel
from src.training_checkpoint import SETTINGS, UNFINISHED, finish, last_complete
from src.training_fsdp import load_whole_state, set_up, share_of, uses_fsdp, whole, whole_state
from src.training_readers import is_of_reader
from src.training_settings import Settings


class AdapterTrainer(Trainer):
    """Writes nothing frozen, neither into the model file nor into DeepSpeed's."""

    settings: Settings  # of the run, written into each checkpoint
    unfinished_dir: str | None = None  # while a checkpoint is being written

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if uses_fsdp():
            set_up(self.accelerator)
        self.is_fsdp_enabled = uses_fsdp()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapters in float32. (Trainer's own way first gathers the whole state, 16 GB of it frozen.)"""
        model: DIFFAModel = self.accelerator.unwrap_model(self.model)
        # on all processes, in one order: DeepSpeed puts the parts of a parameter together
        state = {name: self.master(weight) for name, weight in model.named_parameters() if weight.requires_grad}
        if self.args.should_save:
            model.save_pretrained(output_dir or self.args.output_dir, state)

    def master(self, weight: torch.nn.Parameter) -> torch.Tensor:
        """A trained weight, whole and as the optimizer knows it.

        DeepSpeed leaves the model a copy, which --bf16 rounds and ZeRO-3 shares out over the processes, as FSDP does.
        """
        if not self.is_deepspeed_enabled:
            return whole(weight)
        from deepspeed.utils import safe_get_full_fp32_param

        master = safe_get_full_fp32_param(weight)
        return weight if master is None else master.cpu()  # there is none before training starts

    def _get_output_dir(self, trial: Any) -> str:
        return self.unfinished_dir or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint beside the others, and give it its name once all processes have written their parts.

        Raises CheckpointError, and leaves earlier checkpoints as they are, when it cannot be written.
        """
        run_dir = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        self.unfinished_dir = str(run_dir / UNFINISHED)
        if self.args.should_save:
            shutil.rmtree(self.unfinished_dir, ignore_errors=True)  # of a run that was killed
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                unfinished = run_dir / UNFINISHED / name
                if self.settings:
                    write_file(unfinished / SETTINGS, json.dumps(self.settings, indent=2) + "\n")
                finish(unfinished, run_dir / name)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            if is_of_reader(error):
                raise
            free, reason = shutil.disk_usage(run_dir).free, str(error).partition("\n")[0]
            raise CheckpointError(
                f"{run_dir / name} could not be written, with {free / 1e6:.0f} MB free on its disk: {reason}. The last "
                f"complete checkpoint is {last_complete(run_dir) or 'none'}; make room and start the same command again"
            ) from error
        finally:
            if self.args.should_save:
                shutil.rmtree(self.unfinished_dir, ignore_errors=True)
            self.unfinished_dir = None
        if self.args.should_save:
            self._rotate_checkpoints(output_dir=str(run_dir))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Keep frozen weights out of what DeepSpeed writes; Trainer asks that of DeepSpeed for PEFT models alone."""
        if not self.is_deepspeed_enabled and not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        if self.is_deepspeed_enabled:
            self.model_wrapped.save_checkpoint(output_dir, exclude_frozen_parameters=True)
        else:
            state = whole_state(self.optimizer)
            if self.args.should_save:
                torch.save(state, os.path.join(output_dir, OPTIMIZER_NAME))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), os.path.join(output_dir, SCHEDULER_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """With the learning rate, its schedule and the weight decay of the flags, where a checkpoint has others."""
        if self.is_fsdp_enabled and checkpoint is not None:
            files = (os.path.join(checkpoint, name) for name in (OPTIMIZER_NAME, SCHEDULER_NAME))
            optimizer, schedule = (torch.load(file, "cpu", weights_only=True) for file in files)
            load_whole_state(self.optimizer, optimizer)
            self.lr_scheduler.load_state_dict(schedule)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        schedule = self.lr_scheduler
        if isinstance(schedule, ReduceLROnPlateau) and vars(schedule).pop("lr_lambdas", None):  # a LambdaLR was before
            for group in self.optimizer.param_groups:  # from the flag on, not from where the other schedule ended
                group["lr"] = self.args.learning_rate
        if checkpoint is None or not isinstance(schedule, LambdaLR):
            return
        schedule.base_lrs = [self.args.learning_rate] * len(schedule.base_lrs)
        rates = [self.args.learning_rate * factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group |= {"initial_lr": self.args.learning_rate, "lr": rate}
        schedule._last_lr = rates
        self.optimizer.param_groups[0]["weight_decay"] = self.args.weight_decay  # the others are biases and norms

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """The trained weights; under FSDP each process its share, of the whole ones that a checkpoint holds."""
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        state = load_file(os.path.join(resume_from_checkpoint, SAFE_WEIGHTS_NAME))
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(share_of(state[published_name(name)], weight))

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

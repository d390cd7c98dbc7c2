import itertools
import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainingArguments

from src import eval_wer, sft_trainer
from src.configuration_DIFFA import STAGES
from src.data_sampler import EvaluationSampler
from src.dataloader import ORIGIN, DIFFACollator, DIFFADataset
from src.generation_options import GenerationOptions
from src.manifest import Sample
from src.mixture import Mixture
from src.modeling_DIFFA import DIFFAModel
from src.sft_trainer import TrainingError, dLLMTrainer
from src.training_checkpoint import is_complete, last_complete
from src.training_meter import GIBIBYTE, peak_bytes
from tests.conftest import GOLDEN, load_short

SAMPLES = [
    Sample(f"clip{clip}", GOLDEN / f"clip{clip}.wav", "hello", target, "", "golden", 1.0, {})
    for clip, target in ((0, "one two"), (1, "the speaker is male"), (0, "ten"), (1, "nine"))
]
GONE = replace(SAMPLES[0], audio_id="gone", audio_filepath=Path("/nowhere/gone.wav"))


def trainer_for(
    model: DIFFAModel,
    output_dir,
    samples=SAMPLES,
    max_bad_fraction: float = 0.001,
    wer_samples=(),
    loss_normalization="published",
    mixture=None,
    **options,
):
    config = model.llm_model.config
    defaults = {"per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 1e-3, "save_steps": 1, "seed": 3}
    defaults |= {"logging_steps": 1, "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(output_dir, use_cpu=True, remove_unused_columns=False, **(defaults | options))
    return dLLMTrainer(
        model,
        arguments,
        train_dataset=DIFFADataset(samples, model.tokenizer),
        eval_dataset=DIFFADataset(samples, model.tokenizer),
        data_collator=DIFFACollator(model.feature_extractor, config.mask_token_id, config.pad_token_id),
        max_bad_fraction=max_bad_fraction,
        wer_samples=wer_samples,
        loss_normalization=loss_normalization,
        mixture=mixture,
    )


def trained(stage: int, output_dir, resume: Path | None = None, **options) -> dLLMTrainer:
    """A trainer after training a fresh model."""
    model = load_short()
    model.prepare_training(stage)
    trainer = trainer_for(model, output_dir, **options)
    trainer.train(resume_from_checkpoint=resume and str(resume))
    return trainer


def losses(trainer: dLLMTrainer) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


def adapters(model: DIFFAModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if name.startswith(STAGES[2].trains)}


@pytest.mark.parametrize("stage", [1, 2])
def test_only_the_stages_modules_change_are_optimised_and_saved(tmp_path, stage):
    model = load_short()
    model.prepare_training(stage)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trainer_for(model, tmp_path)
    trainer.train()
    changed = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(STAGES[stage].trains)
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert in_optimizer == {id(p) for name, p in model.named_parameters() if name.startswith(STAGES[stage].trains)}
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups]
    for decays, group in zip((True, False), groups, strict=True):
        assert all(name.endswith(("bias", "LayerNorm.weight", "layernorm.weight", "proj.0.weight")) != decays
                   for name in group)  # fmt: skip
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert {name.split(".")[0] for name in saved} == set(STAGES[stage].trains)
    state = torch.load(tmp_path / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == len(in_optimizer)


def test_resuming_goes_on_with_the_saved_adapters_and_step(tmp_path):
    model = load_short()
    model.prepare_training(2)
    trainer_for(model, tmp_path).train()
    resumed = load_short()
    resumed.prepare_training(2)
    trainer = trainer_for(resumed, tmp_path, max_steps=2)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))  # nothing left to do: the weights come back
    for name, tensor in adapters(model).items():
        assert torch.equal(adapters(resumed)[name], tensor), name
    assert trainer.state.global_step == 2


def test_tensorboard_gets_losses(tmp_path):
    model = load_short()
    model.prepare_training(1)
    trainer_for(model, tmp_path, max_steps=4, report_to="tensorboard", logging_dir=tmp_path / "logs").train()
    losses = [event.value for event in EventAccumulator(str(tmp_path / "logs")).Reload().Scalars("train/loss")]
    assert len(losses) == 4 and max(losses) > 0  # a small batch may happen to have no masked token


def test_gradient_accumulation_averages(tmp_path):
    """Two micro-batches of one sample with the same masks move the weights as their average does."""

    class Twice(DIFFADataset):
        def __getitem__(self, index):
            return super().__getitem__(0)

    def one_update(batch_size: int, accumulation: int, folder) -> dict[str, torch.Tensor]:
        model = load_short()
        model.prepare_training(1)
        trainer = trainer_for(
            model, folder, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, max_steps=1
        )
        trainer.train_dataset = Twice(SAMPLES, model.tokenizer)
        collate = trainer.data_collator

        def same_masks(examples):
            torch.manual_seed(7)
            one = collate(examples[:1])
            return {
                key: value * len(examples) if key == "num_answer_tokens" else torch.cat([value] * len(examples))
                for key, value in one.items()
            }

        trainer.data_collator = same_masks
        trainer.train()
        log = json.loads((folder / "checkpoint-1" / "trainer_state.json").read_text())["log_history"]
        return log[0]["loss"], log[0]["grad_norm"]

    loss, norm = one_update(2, 1, tmp_path / "a")
    assert one_update(1, 2, tmp_path / "b") == (pytest.approx(loss, rel=1e-4), pytest.approx(norm, rel=1e-4))


@pytest.mark.parametrize("normalization", ["published", "update"])
def test_how_an_effective_batch_size_comes_about_matters_unless_updates_are_normalized(tmp_path, normalization):
    """One batch of four, two of two, four of one; every second update is filled up."""
    samples = [replace(SAMPLES[index % 2], audio_id=str(index), target="one two " * index) for index in range(1, 7)]
    options = {"samples": samples, "loss_normalization": normalization, "max_steps": 3, "save_steps": 3}
    options |= {"learning_rate": 1e-4}
    runs = []
    for batch_size, accumulation in ((4, 1), (2, 2), (1, 4)):
        split = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        runs.append(losses(trained(1, tmp_path / str(batch_size), **split, **options)))
    furthest = max(abs(run[step] / loss - 1) for run in runs[1:] for step, loss in runs[0].items())
    assert len(runs[0]) == 3 and (furthest < 1e-5 if normalization == "update" else furthest > 0.05), furthest


# -- the same after a kill as without --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("step", [2, 3])  # at the end of an epoch and in the middle of one
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path, workers, step):
    """Three samples and two micro-batches of one: an epoch has two updates, the last one filled up."""
    options = {
        "samples": SAMPLES[:3], "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": 5,
        "dataloader_num_workers": workers, "lr_scheduler_type": "cosine",
    }  # fmt: skip
    whole = trained(2, tmp_path / "whole", **options)  # stage 2: dropout in the acoustic adapter
    torch.manual_seed(99)  # another process has other random numbers
    resumed = trained(2, tmp_path / "again", resume=tmp_path / "whole" / f"checkpoint-{step}", **options)
    assert losses(resumed) == losses(whole) and len(losses(whole)) == 5 and len(set(losses(whole).values())) > 1
    for name, tensor in adapters(whole.model).items():
        assert torch.equal(adapters(resumed.model)[name], tensor), name


def test_a_resumed_run_takes_the_same_samples_in_smaller_batches(tmp_path, monkeypatch):
    """Trainer alone would go on with the checkpoint's batch size, and so with updates of twice as many samples."""
    seen, compute_loss = [], dLLMTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        seen.append(inputs[ORIGIN].audio_ids)
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(dLLMTrainer, "compute_loss", watched)
    options = {"samples": [replace(SAMPLES[0], audio_id=str(index)) for index in range(6)], "max_steps": 4}
    trained(1, tmp_path, **options)
    whole, seen[:] = list(seen), []
    smaller = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    trained(1, tmp_path, resume=tmp_path / "checkpoint-1", **options, **smaller)
    assert seen == [[name] for batch in whole[1:] for name in batch] and len(whole) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 5e-3, "weight_decay": 0.3},
        {"lr_scheduler_type": "cosine", "warmup_steps": 4, "max_steps": 8},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "learning_rate": 5e-3, "eval_strategy": "steps"},
        {"logging_steps": 2, "save_steps": 3},
    ],
)
def test_what_may_change_takes_effect_in_a_resumed_run(tmp_path, changes):
    """Logged, saved and set as in a run that was started so."""
    before = {"max_steps": 6, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_steps": 2}
    trained(1, tmp_path / "before", **before)
    new = before | changes
    whole = trained(1, tmp_path / "whole", **new)
    shutil.copytree(tmp_path / "before" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    resumed = trained(1, tmp_path / "resumed", resume=tmp_path / "resumed" / "checkpoint-2", **new)
    assert rates_from(resumed, 3) == rates_from(whole, 3) and len(rates_from(whole, 3)) >= 2
    decays = [[group["weight_decay"] for group in one.optimizer.param_groups] for one in (resumed, whole)]
    assert decays[0] == decays[1] == [new["weight_decay"], 0.0]
    saved = [{path.name for path in (tmp_path / name).glob("checkpoint-*")} for name in ("resumed", "whole")]
    assert saved[0] - {"checkpoint-2"} == saved[1] - {"checkpoint-1", "checkpoint-2"}


def rates_from(trainer: dLLMTrainer, step: int) -> dict[int, float]:
    """Learning rates that were logged from a step on."""
    log = trainer.state.log_history
    return {
        entry["step"]: entry["learning_rate"] for entry in log if "learning_rate" in entry and entry["step"] >= step
    }


def batches_of(trainer: dLLMTrainer, epochs: int) -> list[list[list[str]]]:
    """The ids of each epoch, by batches."""
    loader = trainer.get_train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found.append([batch[ORIGIN].audio_ids for batch in loader])
    return found


def test_epochs_have_whole_updates_of_shuffled_samples(tmp_path, model):
    samples = [replace(SAMPLES[0], audio_id=str(index)) for index in range(5)]
    trainer = trainer_for(model, tmp_path, samples=samples, gradient_accumulation_steps=2)
    epochs = batches_of(trainer, epochs=2)
    assert [[len(batch) for batch in batches] for batches in epochs] == [[2] * 4] * 2
    first, second = ([name for batch in batches for name in batch] for batches in epochs)
    assert sorted(first[:5]) == sorted(second[:5]) == list("01234") and first != second


def test_a_resumed_run_draws_from_a_mixture_what_an_uninterrupted_one_draws(tmp_path, monkeypatch):
    """Four samples of which an epoch takes all of the first two, and one of the others: three updates in two epochs."""
    mixture, read = Mixture((2, 2), (2, 1)), []
    of_dataset = DIFFADataset.read

    def noted(dataset: DIFFADataset, index: int):
        read.append(index)
        return of_dataset(dataset, index)

    monkeypatch.setattr(DIFFADataset, "read", noted)
    options = {"mixture": mixture, "per_device_train_batch_size": 1, "max_steps": 6}
    trained(1, tmp_path / "whole", **options)
    whole, epochs = list(read), [sorted(read[:3]), sorted(read[3:6])]
    assert [epoch[:2] for epoch in epochs] == [[0, 1], [0, 1]] and {epochs[0][2], epochs[1][2]} == {2, 3}
    read.clear()
    trained(1, tmp_path / "resumed", resume=tmp_path / "whole" / "checkpoint-4", **options)
    assert read[-2:] == whole[4:]


@pytest.mark.parametrize("grouped", [False, True])
def test_grouping_by_length_goes_by_the_manifest(tmp_path, model, grouped):
    samples = [replace(SAMPLES[0], duration=float(index % 2) * 20) for index in range(400)]
    sampler = trainer_for(model, tmp_path, samples=samples, group_by_length=grouped)._get_train_sampler()
    order = [draw.index for draw in sampler]
    mixed = sum(one % 2 != other % 2 for one, other in zip(order[::2], order[1::2], strict=True))
    assert mixed < 10 if grouped else mixed > 70


def test_deepspeed_does_not_round_the_batch(tmp_path, model, monkeypatch):
    trainer = trainer_for(model, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    prepared = trainer._prepare_inputs(batch)
    assert prepared["t"].dtype == prepared["input_features"].dtype == torch.float32
    assert all(prepared[key] is batch[key] for key in batch)


def test_gradient_checkpointing_reaches_the_llm(tmp_path):
    model = load_short()
    model.prepare_training(1)
    trainer_for(model, tmp_path, gradient_checkpointing=True, max_steps=1).train()
    assert model.llm_model.gradient_checkpointing


# -- fault tolerance -------------------------------------------------------------------------------------------------


def test_a_clip_that_cannot_be_used_is_replaced_counted_and_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="src.sft_trainer"):
        trainer = trained(1, tmp_path, samples=[*SAMPLES[:3], GONE], max_steps=6, max_bad_fraction=0.25)
    assert trainer.state.global_step == 6
    warnings = [record.getMessage() for record in caplog.records if record.name == "src.sft_trainer"]
    assert warnings == ["clip replaced by another one: /nowhere/gone.wav: no such audio file"]  # once, in three epochs
    assert trainer.state.log_history[-2]["unusable_clips"] == 1


def test_too_many_clips_that_cannot_be_used_stop_the_run(tmp_path):
    with pytest.raises(TrainingError, match=r"1 of 4 clips cannot be used, more than --max_bad_fraction 0\.2 allows"):
        trained(1, tmp_path, samples=[*SAMPLES[:3], GONE], max_steps=6, max_bad_fraction=0.2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_the_batchs_samples(tmp_path, value):
    model = load_short()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, max_steps=3)

    def spoil(module, inputs, output) -> None:
        if trainer.state.global_step == 1:
            output.loss = output.loss + value

    model.register_forward_hook(spoil)
    samples = r"clip[01] \(masking rate 0\.\d{3}\), clip[01] \(masking rate 0\.\d{3}\)"
    with pytest.raises(TrainingError, match=rf"step 2: the loss is {value}, of a batch of the samples {samples}\. "):
        trainer.train()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-1"


def test_being_asked_to_stop_writes_a_checkpoint_first(tmp_path):
    model = load_short()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, max_steps=5, save_steps=100)

    class Ask(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            trainer.stop_requested = state.global_step == 2

    trainer.add_callback(Ask())
    trainer.train()
    assert trainer.stopped and trainer.state.global_step == 3
    assert is_complete(tmp_path / "checkpoint-3")
    assert not trained(1, tmp_path, resume=tmp_path / "checkpoint-3", max_steps=5, save_steps=100).stopped
    assert is_complete(tmp_path / "checkpoint-5")


def test_being_asked_to_stop_in_an_evaluation_writes_a_checkpoint_at_once(tmp_path):
    model = load_short()
    model.prepare_training(1)
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 1, "save_steps": 100}
    trainer = trainer_for(model, tmp_path, max_steps=5, wer_samples=SAID, **options)
    evaluated = []

    class Ask(TrainerCallback):
        def on_prediction_step(self, args, state, control, **_):
            evaluated.append(state.global_step)
            trainer.stop_requested = state.global_step == 2 and evaluated.count(2) == 2

    trainer.add_callback(Ask())
    trainer.train()
    assert trainer.stopped and evaluated == [1] * len(SAMPLES) + [2, 2]
    assert len(logged(trainer, "loss")) == 2 and len(logged(trainer, "eval_loss")) == 1
    assert is_complete(tmp_path / "checkpoint-2")
    assert model.training and trainer.eval_losses == {}


@pytest.mark.parametrize("interval", ["steps", "epoch"])  # two steps are an epoch
@pytest.mark.parametrize("moment", ["on_prediction_step", "on_step_begin"])  # in the evaluation, or just before it
def test_an_evaluation_that_was_stopped_is_made_up(tmp_path, monkeypatch, moment, interval):
    """And so the best model is that of a run without interruption, here the first."""
    monkeypatch.setattr(dLLMTrainer, "validation_loss", lambda self: {"loss": float(self.state.global_step)})
    options = {"eval_strategy": interval, "eval_steps": 2, "per_device_eval_batch_size": 1}
    options |= {"save_strategy": interval, "save_steps": 2 if interval == "steps" else 500}
    options |= {"max_steps": 6, "load_best_model_at_end": True}
    options |= {"metric_for_best_model": "loss", "greater_is_better": False}
    whole = trained(1, tmp_path / "whole", **options)
    assert whole.state.best_model_checkpoint == str(tmp_path / "whole" / "checkpoint-2")
    model = load_short()
    model.prepare_training(1)
    stopped = trainer_for(model, tmp_path / "out", **options)
    request = {
        moment: lambda self, args, state, control, **_: setattr(stopped, "stop_requested", state.global_step > 0)
    }
    stopped.add_callback(type("Ask", (TrainerCallback,), request)())
    stopped.train()
    assert stopped.stopped and stopped.state.global_step == 2 and not logged(stopped, "eval_loss")
    resumed = trained(1, tmp_path / "out", resume=tmp_path / "out" / "checkpoint-2", **options)
    assert logged(resumed, "eval_loss") == logged(whole, "eval_loss") == [2.0, 4.0, 6.0]
    assert resumed.state.best_model_checkpoint == str(tmp_path / "out" / "checkpoint-2")
    for name, tensor in adapters(whole.model).items():
        assert torch.equal(adapters(resumed.model)[name], tensor), name


def test_being_asked_to_stop_in_the_evaluation_before_the_first_step_ends_training(tmp_path):
    model = load_short()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, eval_strategy="steps", eval_on_start=True)
    trainer.stop_requested = True
    trainer.train()
    assert trainer.stopped and trainer.state.global_step == 0 and last_complete(tmp_path) is None


# -- watching ---------------------------------------------------------------------------------------------------------


def test_what_is_logged(tmp_path):
    trainer = trained(2, tmp_path, max_steps=4, logging_steps=4)
    entry = trainer.state.log_history[0]
    names = {"loss", "grad_norm", "learning_rate", "epoch", "step", "samples_per_second", "audio_seconds_per_second"}
    assert names | {"memory_gib"} <= set(entry)
    assert entry["audio_seconds_per_second"] == pytest.approx(entry["samples_per_second"] * (0.8 + 2.3) / 2, rel=0.02)
    assert 0 < entry["memory_gib"] <= peak_bytes(torch.device("cpu")) / GIBIBYTE + 1e-4
    binned = {name: value for name, value in entry.items() if name.startswith("loss_t")}
    assert len(binned) >= 3 and all(1 < value < 20 for value in binned.values())  # about log(vocabulary)


def test_validation_masks_alike_every_time(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "learning_rate": 0.0, "per_device_eval_batch_size": 2}
    one = trained(2, tmp_path / "a", **options)
    evaluated = [entry["eval_loss"] for entry in one.state.log_history if "eval_loss" in entry]
    assert len(evaluated) == 2 and evaluated[0] == evaluated[1] > 0
    other = trained(2, tmp_path / "b", seed=8, **options)
    assert [entry["eval_loss"] for entry in other.state.log_history if "eval_loss" in entry] == evaluated


def test_the_validation_loss_is_that_of_the_samples_alone(tmp_path, model):
    """Texts of very different lengths, and a clip that cannot be read."""
    samples = [replace(sample, target=sample.target * (1 + 4 * index)) for index, sample in enumerate(SAMPLES)]
    samples.insert(3, GONE)
    config = model.llm_model.config
    collator = DIFFACollator(model.feature_extractor, config.mask_token_id, config.pad_token_id)
    dataset, places = DIFFADataset(samples, model.tokenizer), list(EvaluationSampler(5))
    total, tokens = 0.0, 0
    for place in places[:3] + places[4:]:
        batch = collator([dataset[place]])
        total += model(**batch).loss.item() * batch["num_answer_tokens"].item()
        tokens += batch["num_answer_tokens"].item()
    for size in (1, 3):
        trainer = trainer_for(model, tmp_path, samples=samples, per_device_eval_batch_size=size)
        metrics = trainer.evaluate()
        assert metrics["eval_loss"] == pytest.approx(total / tokens, rel=1e-5), size
        assert metrics["eval_unusable_clips"] == 1 and trainer.eval_losses == {}


def test_samples_that_two_processes_evaluate_count_once(tmp_path, model, monkeypatch):
    shares = [{0: (6.0, 2), 2: (1.0, 1)}, {1: (3.0, 7), 0: (6.0, 2)}]
    trainer = trainer_for(model, tmp_path)
    monkeypatch.setattr(sft_trainer, "gather_object", lambda mine: mine + shares[1:])
    trainer.eval_losses = shares[0]
    assert trainer.validation_loss() == {"loss": 1.0}


def logged(trainer: dLLMTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.fixture
def hears_targets(monkeypatch):
    """Each evaluation hears what the samples' targets say, whatever the model has learned; their instructions."""
    told = []

    def generate(self, waveforms, instructions, options):
        assert not self.training and options.threshold and len(waveforms) == len(instructions) <= 2
        torch.rand(3), told.extend(instructions)
        targets = {round(0.8 * 16_000): "red blue", round(2.3 * 16_000): "The speaker is male!"}
        return [targets[len(waveform)] for waveform in waveforms]

    monkeypatch.setattr(DIFFAModel, "generate", generate)
    return told


EVALUATE = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
SAID = [replace(SAMPLES[0], transcription="Red, blue."), replace(SAMPLES[1], transcription="the speaker was a male")]


def test_the_word_error_rate_is_logged_beside_the_loss(tmp_path, hears_targets, caplog):
    options = EVALUATE | {"report_to": "tensorboard", "logging_dir": tmp_path / "logs", "max_steps": 2}
    samples = [*SAID, replace(GONE, transcription="lost words"), replace(SAID[0], input="What is said?")]
    with caplog.at_level(logging.WARNING, logger="src.sft_trainer"):
        trainer = trained(1, tmp_path, wer_samples=samples, **options)
    # "is" for "was" and no "a", of two, five and two words
    assert logged(trainer, "eval_wer") == [2 / 9, 2 / 9] and len(logged(trainer, "eval_loss")) == 2
    assert hears_targets == ["hello", "hello", "What is said?"] * 2
    assert logged(trainer, "eval_unusable_clips") == [1, 1] and not logged(trainer, "unusable_clips")
    warnings = [record.getMessage() for record in caplog.records if record.name == "src.sft_trainer"]
    assert warnings == ["clip left out of the evaluation: /nowhere/gone.wav: no such audio file"]
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.value for event in events.Scalars("eval/wer")] == pytest.approx([2 / 9] * 2)
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    assert [entry["eval_wer"] for entry in state if "eval_loss" in entry] == [2 / 9, 2 / 9]


def test_being_asked_to_stop_while_clips_are_transcribed_writes_a_checkpoint_at_once(tmp_path, monkeypatch):
    batches = []

    def generate(self, waveforms, instructions, options):
        batches.append(len(waveforms))
        trainer.stop_requested = True
        return [""] * len(waveforms)

    monkeypatch.setattr(DIFFAModel, "generate", generate)
    model = load_short()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, wer_samples=SAID * 3, **EVALUATE, max_steps=4)
    trainer.train()
    assert batches == [2]  # of the three, the one that was under way
    assert trainer.stopped and trainer.state.global_step == 1 and is_complete(tmp_path / "checkpoint-1")


def test_the_word_error_rate_is_normalised_as_the_language_wants(tmp_path, hears_targets):
    accented = [replace(SAMPLES[0], target="red blue", transcription="Rèd blüe")]  # heard without accents
    trainer = trained(1, tmp_path, wer_samples=accented, **EVALUATE, max_steps=1)
    assert logged(trainer, "eval_wer") == [1]


def test_a_word_error_rate_without_a_usable_clip_is_never_the_best(tmp_path, hears_targets):
    best = {"metric_for_best_model": "wer", "greater_is_better": False}
    trainer = trained(1, tmp_path, wer_samples=[GONE], **EVALUATE, **best)
    assert logged(trainer, "eval_wer") == [math.inf] * 2 and len(logged(trainer, "eval_loss")) == 2


def test_evaluation_leaves_training_as_it_was(tmp_path, monkeypatch):
    """The real model answers, in inference mode, before the first step and after each. (Stage 2, for its dropout.)"""
    monkeypatch.setattr(eval_wer, "OPTIONS", GenerationOptions(steps=4, block_length=4, max_new_tokens=4))
    options = {"max_steps": 3, "save_strategy": "no"}
    without = trained(2, tmp_path / "a", **options)
    options |= EVALUATE | {"eval_on_start": True, "wer_samples": SAID}
    evaluated = trained(2, tmp_path / "b", **options)
    assert losses(evaluated) == pytest.approx(losses(without), abs=1e-6) and len(losses(without)) == 3
    for name, tensor in adapters(without.model).items():
        assert torch.equal(adapters(evaluated.model)[name], tensor), name
    assert len(logged(evaluated, "eval_wer")) == 4


def test_evaluation_gives_back_random_state_mode_and_time(tmp_path, hears_targets):
    model = load_short()
    model.prepare_training(1)
    trainer = trainer_for(model, tmp_path, wer_samples=SAID)
    for training in (True, False):
        model.train(training)
        before, start = torch.get_rng_state(), trainer.meter.start
        assert trainer.evaluate()["eval_wer"] == 2 / 7
        assert torch.equal(torch.get_rng_state(), before) and model.training is training
        assert trainer.meter.start > start


def test_the_best_checkpoint_by_word_error_rate_is_loaded_at_the_end(tmp_path, monkeypatch):
    heard = iter([["red blue", "no"], ["red blue", "the speaker was a male"], ["", ""], ["", ""]])
    monkeypatch.setattr(DIFFAModel, "generate", lambda *_: next(heard))
    options = EVALUATE | {"load_best_model_at_end": True, "metric_for_best_model": "wer", "greater_is_better": False}
    trainer = trained(1, tmp_path, wer_samples=SAID, max_steps=4, save_total_limit=2, **options)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2") and trainer.state.best_metric == 0
    assert last_complete(tmp_path) == tmp_path / "checkpoint-4" and is_complete(tmp_path / "checkpoint-2")
    best = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    for name, tensor in best.items():
        assert torch.equal(trainer.model.state_dict()[name], tensor), name
    last = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert any(not torch.equal(last[name], tensor) for name, tensor in best.items())


@pytest.mark.parametrize("wer", [True, False])
def test_the_best_checkpoint_is_the_best_of_those_that_were_saved(tmp_path, monkeypatch, wer):
    """Evaluated after each step and saved after every second one; the best evaluation is the first."""
    worse_and_worse = iter(range(6))
    metric = "wer" if wer else "loss"
    monkeypatch.setattr(
        dLLMTrainer, "word_error_rate" if wer else "validation_loss", lambda _: {metric: float(next(worse_and_worse))}
    )
    options = EVALUATE | {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": False}
    trainer = trained(1, tmp_path, max_steps=5, save_steps=2, save_total_limit=2, **options)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2") and trainer.state.best_metric == 1
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-5"}
    best = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(trainer.model.state_dict()[name], tensor) for name, tensor in best.items())


def test_the_best_checkpoint_is_found_where_the_folder_lies_now(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dLLMTrainer, "validation_loss", lambda self: {"loss": float(self.state.global_step)})
    options = EVALUATE | {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False}
    options |= {"save_total_limit": 2}
    trained(1, tmp_path / "before", max_steps=2, **options)
    now = tmp_path / "now"
    (tmp_path / "before").rename(now)
    best = load_file(now / "checkpoint-1" / "model.safetensors")
    monkeypatch.chdir(tmp_path)  # and is called by a relative path
    resumed = trained(1, "now", resume=now / "checkpoint-2", max_steps=4, **options)
    assert Path(resumed.state.best_model_checkpoint) == Path("now/checkpoint-1") and resumed.state.best_metric == 1
    assert {path.name for path in now.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-4"}
    assert all(torch.equal(resumed.model.state_dict()[name], tensor) for name, tensor in best.items())
    shutil.rmtree(now / "checkpoint-1")
    resumed = trained(1, "now", resume=now / "checkpoint-4", max_steps=6, **options)
    assert "now/checkpoint-1, the best checkpoint so far, is gone and does not count any more" in caplog.text
    assert Path(resumed.state.best_model_checkpoint) == Path("now/checkpoint-5") and resumed.state.best_metric == 5


def test_an_evaluation_set_that_cannot_be_read_does_not_end_training(tmp_path, caplog):
    """Its disk is gone, say. The set is named, and what can be used of it counts as ever."""
    lost = [replace(SAMPLES[0], audio_id=str(n), audio_filepath=tmp_path / f"gone{n}.wav") for n in range(14)]
    long = replace(SAMPLES[0], audio_id="long", input="word " * 3000)
    model = load_short()
    model.prepare_training(1)
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
    trainer = trainer_for(model, tmp_path, max_steps=1, **options)
    trainer.eval_name = "data/dev.json"
    trainer.eval_dataset = DIFFADataset([*lost, long], model.tokenizer, replaces_unusable=False)
    with caplog.at_level(logging.WARNING, logger="src.sft_trainer"):
        trainer.train()
    assert logged(trainer, "eval_loss") == [math.inf] and logged(trainer, "eval_unusable_clips") == [15]
    told = [record.getMessage() for record in caplog.records if record.name == "src.sft_trainer"]
    assert told[0].endswith("gone0.wav: no such audio file") and len(told) == 16
    assert told[-1] == "evaluation set data/dev.json: not one of its samples can be used; training goes on"
    measured = []
    for rest in (lost, [SAMPLES[0]] * len(lost)):  # as many, so that the first have the same masks
        trainer.eval_dataset = DIFFADataset([*SAMPLES, *rest], model.tokenizer, replaces_unusable=False)
        trainer.validation_loss = lambda: (
            measured.append([trainer.eval_losses[n][0] for n in range(4)]) or {"loss": 1.0}
        )
        trainer.evaluate()
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)


def test_times_are_measured_by_a_clock_that_nobody_sets(tmp_path, monkeypatch):
    """The time of day is set back by an hour, again and again."""
    now = itertools.count(1e9, -3600.0)
    monkeypatch.setattr("transformers.trainer.time.time", lambda: next(now))
    trainer = trained(1, tmp_path, max_steps=2, **EVALUATE)
    times = {k: v for entry in trainer.state.log_history for k, v in entry.items() if k.endswith(("time", "_second"))}
    assert {"train_runtime", "eval_runtime"} <= set(times)
    assert all(0 < value < 3600 for value in times.values()), times

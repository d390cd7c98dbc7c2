"""Stage 4's trainer: what it trains, logs and evaluates."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from src.dataloader import DIFFADataset
from src.preference_data import PairCollator
from src.preference_model import PreferenceModel
from src.preference_trainer import PreferenceTrainer
from src.sft_trainer import TrainingError
from tests.conftest import GOLDEN2
from tests.diffa2_api import load_trainable
from tests.src.test_preference import PAIRS

FIGURES = {
    "loss", "margin", "chosen_wins", "chosen_gain", "rejected_gain", "chosen_gain_variance", "rejected_gain_variance",
}  # fmt: skip


def trainer_for(model: PreferenceModel, folder: Path, **options) -> PreferenceTrainer:
    defaults = {"per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 1e-3, "logging_steps": 1, "seed": 3}
    defaults |= {"report_to": "none", "disable_tqdm": True, "remove_unused_columns": False, "use_cpu": True}
    config = model.llm_model.config
    dataset = DIFFADataset(PAIRS, model.tokenizer, replaces_unusable=False)
    return PreferenceTrainer(
        model,
        TrainingArguments(folder, **(defaults | options)),
        train_dataset=DIFFADataset(PAIRS, model.tokenizer),
        eval_dataset=dataset,
        data_collator=PairCollator(model.feature_extractor, config.mask_token_id, config.pad_token_id, num_draws=2),
    )


def test_the_policy_is_trained_and_saved_and_the_reference_stays(tmp_path):
    model = load_trainable(GOLDEN2, "diffa2_stage3")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trainer_for(model, tmp_path)
    trainer.train()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changed <= trained and not any("reference" in name for name in trained)
    assert {name.partition(".")[0] for name in changed} == {"semantic_connector", "acoustic_connector", "llm_model"}
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert len(saved) == len(trained) and not any("reference" in name for name in saved)
    steps = [entry for entry in trainer.state.log_history if "margin" in entry]
    assert len(steps) == 2 and all(entry.keys() >= FIGURES and entry["samples_per_second"] > 0 for entry in steps)


def test_an_evaluation_is_the_same_for_any_batch_size_and_changes_nothing(tmp_path):
    model = load_trainable(GOLDEN2, "diffa2_stage4")
    model.refer_to(load_trainable(GOLDEN2, "diffa2_stage3"))
    metrics = []
    for size in (1, 3):
        torch.manual_seed(size)
        metrics.append(trainer_for(model, tmp_path, per_device_eval_batch_size=size).evaluate())
    one, other = ({name.removeprefix("eval_"): value for name, value in found.items()} for found in metrics)
    assert one.keys() >= FIGURES
    for name in FIGURES:
        assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-3), name
    assert one["chosen_wins"] in (0, 1 / 3, 2 / 3, 1) and model.training is False
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_is_not_finite_names_the_pairs(tmp_path):
    model = load_trainable(GOLDEN2, "diffa2_stage3")
    with torch.no_grad():
        model.semantic_connector.layernorm.weight.fill_(torch.nan)
    with pytest.raises(
        TrainingError, match=r"step 1: the loss is nan, of .* [abc] \(masking rate [01]\.\d+ [01]\.\d+ "
    ):
        trainer_for(model, tmp_path).train()

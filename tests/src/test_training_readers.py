import multiprocessing
import os
import signal

import pytest
from torch.utils.data import get_worker_info

from src.dataloader import DIFFADataset
from src.training_readers import STOP_SIGNALS, ReaderError
from tests.conftest import load_golden
from tests.src.test_sft_trainer import SAMPLES, trainer_for


class KillsItsReader(DIFFADataset):
    """As the kernel does when memory runs out: the first process that reads clip 2 is gone."""

    def __getitem__(self, draw):
        worker = get_worker_info()
        if draw.index == 2:
            os.kill(os.getpid(), signal.SIGKILL if worker else 0)
        return super().__getitem__(draw)


@pytest.mark.parametrize("evaluates", [False, True])
def test_a_reading_process_that_is_killed_ends_the_run(tmp_path, evaluates):
    model = load_golden()
    model.prepare_training(1)
    trainer = trainer_for(
        model,
        tmp_path,
        max_steps=50,
        dataloader_num_workers=2,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=1,
    )
    name = "eval_dataset" if evaluates else "train_dataset"
    setattr(trainer, name, KillsItsReader(SAMPLES, model.tokenizer))
    with pytest.raises(ReaderError, match=r"a process that reads audio was killed, .*out of memory .*WORKERS"):
        trainer.train()
    assert multiprocessing.active_children() == []  # Python would end them by SIGTERM, which they ignore, and wait


def test_readers_that_outlive_an_epoch_end_with_training(tmp_path):
    model = load_golden()
    model.prepare_training(1)
    evaluates = {"eval_strategy": "steps", "eval_steps": 1}
    trainer = trainer_for(model, tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True, **evaluates)
    trainer.train()
    assert multiprocessing.active_children() == []
    assert "eval_loss" in trainer.state.log_history[-2]


class SignalsItsReader(DIFFADataset):
    """As a cluster and a terminal do: every process of the job gets the signal."""

    def __getitem__(self, draw):
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
        return super().__getitem__(draw)


def test_readers_are_deaf_to_what_stops_training(tmp_path):
    model = load_golden()
    dataset = SignalsItsReader(SAMPLES, model.tokenizer)
    trainer = trainer_for(model, tmp_path, dataloader_num_workers=1)
    trainer.train_dataset = trainer.eval_dataset = dataset
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        assert sum(len(batch["t"]) for batch in loader) == len(SAMPLES)

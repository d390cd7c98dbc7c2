"""The trainer of stage 4, whose samples are preference pairs."""

import math
from typing import Any

from accelerate.utils import gather_object

from src.dataloader import Origin
from src.preference import PreferenceOutput
from src.sft_trainer import dLLMTrainer
from src.training_meter import PreferenceMeter


class PreferenceTrainer(dLLMTrainer):
    """Trains a `PreferenceModel` on pairs that a `PairCollator` masks; logs what `PreferenceOutput.figures` names."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.meter = PreferenceMeter(self.args.device, self.model.feature_extractor.hop_length)

    def count_training(self, inputs: dict[str, Any], outputs: PreferenceOutput) -> None:
        self.meter.add(inputs, outputs.figures())

    def count_evaluation(self, origin: Origin, outputs: PreferenceOutput) -> None:
        figures = {"loss": outputs.losses} | outputs.figures()
        rows = zip(*(values.tolist() for values in figures.values()), strict=True)
        pairs = zip(origin.indices, rows, strict=True)
        self.eval_losses |= {index: dict(zip(figures, row, strict=True)) for index, row in pairs if index is not None}

    def validation_loss(self) -> dict[str, float]:
        """Means over the set's pairs, each with masks that are the same in every evaluation."""
        found = {index: figures for part in gather_object([self.eval_losses]) for index, figures in part.items()}
        if not found:
            return super().validation_loss()
        pairs = list(found.values())
        return {name: math.fsum(pair[name] for pair in pairs) / len(pairs) for name in pairs[0]}

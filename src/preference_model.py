"""DIFFA-2 in stage 4: a policy and its reference, over one LLM and one encoder."""

import copy

import torch
from torch import nn

from src.configuration_DIFFA import STAGES
from src.lora import REFERENCE, copy_factors
from src.modeling_DIFFA import DIFFAModel
from src.preference import PreferenceObjective, PreferenceOutput, preference_loss


class PreferenceModel(DIFFAModel):
    """A DIFFA whose training loss is that of preferences (`preference`).

    The reference is what the policy was when `prepare_training` was called: frozen copies of its adapters
    (`reference`), and of the LoRA factors, beside them in the same layers. The LLM and the encoder are the policy's.
    No checkpoint holds the reference: it is what training starts from.

    Attributes:
        objective: what the loss is; can be set.
        draws_at_once: how many of an answer's draws go through the LLM in one pass: more are faster on a GPU, and take
            as much more memory for their activations; can be set.
        drops_out: whether the policy, in training mode, drops anything out (as published); the reference never does.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.objective = PreferenceObjective()
        self.draws_at_once = 1
        self.drops_out = True
        self.reference = nn.ModuleDict()

    def prepare_training(self, stage: int) -> None:
        super().prepare_training(stage)
        self.refer_to(self)

    def refer_to(self, other: DIFFAModel) -> None:
        """Make a model's present adapters and LoRA factors the reference: frozen copies of them."""
        adapters = {name: copy.deepcopy(getattr(other, name)) for name in STAGES[self.stage].trains}
        self.reference = nn.ModuleDict(adapters).requires_grad_(False).eval()
        copy_factors(other.llm_model, self.llm_model, REFERENCE)

    def train(self, mode: bool = True) -> "PreferenceModel":
        """Training mode for what drops out of the policy alone."""
        super().train(mode)
        self.reference.eval()
        if not self.drops_out:
            for module in self.children():
                module.eval()
        return self

    def forward(
        self,
        input_features: torch.Tensor,
        feature_attention_mask: torch.Tensor,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        t: torch.Tensor,
        audio_position: torch.Tensor,
        text_attention_mask: torch.Tensor,
    ) -> PreferenceOutput:
        """The loss of a batch of pairs.

        Args (B pairs, K draws, L text tokens, F mel frames; the axis of 2: chosen, rejected), as `PairCollator` returns
        them:
            input_features: [B, n_mels, F]; feature_attention_mask: [B, F].
            input_ids: [2, K, B, L], masks applied, audio not spliced in; padding on the right.
            labels: [2, K, B, L], the clean id where masked, else -100.
            t: [2, K, B], the masking rates p.
            audio_position: [B], where in the texts the audio goes: both answers have one prompt.
            text_attention_mask: [2, B, L], 0 on padding.
        """
        with torch.no_grad():
            heard = self.whisper_model(input_features, feature_attention_mask, self.states_read)  # once, for both
            reference_audio, _ = self.embed_audio(*heard, self.reference)
        policy_audio, audio_lengths = self.embed_audio(*heard, dict(self.named_children()))  # [B, N, d], [B]
        return preference_loss(
            self.llm_model, policy_audio, reference_audio, audio_lengths, audio_position, input_ids, labels, t,
            text_attention_mask.sum(dim=-1), self.objective, self.draws_at_once,
        )  # fmt: skip

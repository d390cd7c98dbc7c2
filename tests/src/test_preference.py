"""The objective of preference optimisation against the published algorithm, and by its own laws."""

import pytest
import torch

from src.dataloader import DIFFADataset
from src.lora import REFERENCE, factors_in_use
from src.manifest import Sample
from src.masked_diffusion import Masking
from src.preference import (
    PreferenceObjective,
    PreferenceOutput,
    elbo,
    exact_masks,
    losses_of,
    margins_of,
)
from src.preference_data import PairCollator
from src.preference_model import PreferenceModel
from tests import reference
from tests.conftest import GOLDEN, GOLDEN2
from tests.diffa2_api import load_trainable

PAIRS = [  # clips and answers of different lengths
    Sample("a", GOLDEN / "clip0.wav", "hello", "one two three", "", "golden", 0.8, {}, "one two four five"),
    Sample("b", GOLDEN / "clip2.wav", "words", "ten", "", "golden", 5.1, {}, "ten nine eight seven six"),
    Sample("c", GOLDEN / "clip1.wav", "words", "the speaker is male", "", "golden", 2.3, {}, "the speaker is a dog"),
]


@pytest.fixture(scope="module")
def policy() -> PreferenceModel:
    """Stage 4 from stage 3: the reference is another model."""
    policy = load_trainable(GOLDEN2, "diffa2_stage4")
    policy.refer_to(load_trainable(GOLDEN2, "diffa2_stage3"))
    return policy


def batch_of(model: PreferenceModel, num_draws: int, rows=range(3), stratified: bool = False) -> dict:
    dataset, config = DIFFADataset(PAIRS, model.tokenizer), model.llm_model.config
    collate = PairCollator(model.feature_extractor, config.mask_token_id, config.pad_token_id, num_draws, stratified)
    examples = [dataset[row] for row in rows]
    for row, example in zip(rows, examples, strict=True):
        object.__setattr__(example, "masking", Masking(0.5, row))
    return collate(examples)


def gradients(model: PreferenceModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys() and len(found) > 50
    for name, gradient in wanted.items():
        tolerance = 1e-5 * gradient.abs().max().item() + 1e-7
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance, msg=name)


# -- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stratified", [False, True])
def test_exactly_k_of_the_answers_tokens_are_masked_every_k_and_every_subset_alike(stratified):
    answer = torch.tensor([False, True, True, False, True])
    generator = torch.Generator().manual_seed(0)
    found = [exact_masks(answer, 4, stratified, generator) for _ in range(3000)]
    masks, rates = torch.cat([mask for mask, _ in found]), torch.cat([rate for _, rate in found])
    assert not masks[:, ~answer].any()
    counts = masks.sum(dim=1)
    assert torch.equal(rates, counts / 3)
    assert torch.bincount(counts)[1:] / len(counts) == pytest.approx([1 / 3] * 3, abs=0.02)
    subsets = masks[counts == 2][:, answer].float()
    assert subsets.mean(dim=0) == pytest.approx([2 / 3] * 3, abs=0.03)


def test_stratified_draws_spread_over_the_counts():
    answer = torch.ones(40, dtype=torch.bool)
    for seed in range(20):
        _, rates = exact_masks(answer, 4, True, torch.Generator().manual_seed(seed))
        quarters = ((rates * 40 - 1) // 10).long()
        assert sorted(quarters.tolist()) == [0, 1, 2, 3]


def test_an_answers_masks_hang_on_its_seed_alone(policy):
    whole = batch_of(policy, 2)
    for row in range(3):
        alone = batch_of(policy, 2, [row])
        length = alone["labels"].shape[-1]
        assert torch.equal(alone["labels"][:, :, 0], whole["labels"][:, :, row, :length])
        assert torch.equal(alone["t"][:, :, 0], whole["t"][:, :, row])
    assert not torch.equal(whole["t"][0], whole["t"][1])  # chosen and rejected draw on their own


# -- loss and gradient -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[1], [0, 1, 2]])
@pytest.mark.parametrize(("num_draws", "at_once"), [(1, 1), (4, 1), (4, 3)])
def test_one_graph_at_a_time_gives_the_gradient_of_the_plain_sum(policy, num_draws, at_once, rows):
    """Also in batches of different lengths, where the plain form pads, and with the chosen answers' own loss."""
    policy.draws_at_once = at_once
    batch = batch_of(policy, num_draws, rows)
    other = load_trainable(GOLDEN2, "diffa2_stage3")
    policy.objective = PreferenceObjective(beta=0.05, sft_weight=0.3)
    expected = reference.preference_loss(policy, other, batch, 0.05, 0.3)
    wanted = gradients(policy, expected)
    output = policy(**batch)
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=0)
    found = gradients(policy, output.loss / 2)  # as a loss that is scaled has it
    assert_close(found, {name: gradient / 2 for name, gradient in wanted.items()})


def test_the_gradient_is_that_of_the_same_passes_where_the_policy_drops_out(policy):
    """Every pass drops out other inputs of the factors; the audio's embeddings are one for all passes of a step."""
    dropping = PreferenceModel.from_pretrained(
        GOLDEN2 / "diffa2_stage4", GOLDEN2 / "llada", GOLDEN2 / "whisper", merge_lora=False, lora_dropout=0.3
    )
    dropping.prepare_training(4)
    dropping.refer_to(policy)
    batch = batch_of(dropping, 2, [0])
    dropping.train()

    def plain() -> torch.Tensor:
        heard = dropping.whisper_model(batch["input_features"], batch["feature_attention_mask"])
        with torch.no_grad():
            reference_audio, _ = dropping.embed_audio(*heard, dropping.reference)
        audio, _ = dropping.embed_audio(*heard, dict(dropping.named_children()))
        sides = []
        for side in (0, 1):
            length = int(batch["text_attention_mask"][side, 0].sum())
            draws = []
            for draw in (0, 1):
                text = [batch[name][side, [draw], 0, :length] for name in ("input_ids", "labels")]
                masked = batch["audio_position"], *text, batch["t"][side, [draw], 0]
                with torch.no_grad(), factors_in_use(dropping.llm_model, REFERENCE):
                    reference_elbo = elbo(dropping.llm_model, reference_audio, *masked)
                draws.append(elbo(dropping.llm_model, audio, *masked) - reference_elbo)
            sides.append(sum(draws) / 2)
        return -torch.nn.functional.logsigmoid(0.2 * (sides[0] - sides[1]))

    def gradients_of(loss) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return gradients(dropping, loss())

    wanted = gradients_of(plain)
    assert_close(gradients_of(lambda: dropping(**batch).loss), wanted)
    dropping.llm_model.gradient_checkpointing = True
    assert_close(gradients_of(lambda: dropping(**batch).loss), wanted)
    torch.manual_seed(2)
    assert dropping(**batch).loss != plain()
    dropping.refer_to(dropping)
    dropping.drops_out = False
    assert dropping.train().training and not dropping.llm_model.training
    assert dropping(**batch).loss.item() == torch.tensor(2.0).log().item()


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_policy_that_is_its_reference_has_no_margin(at_once):
    policy = load_trainable(GOLDEN2, "diffa2_stage4")
    policy.draws_at_once = at_once
    output = policy(**batch_of(policy, 2))
    assert output.loss.item() == torch.tensor(2.0).log().item()
    assert output.margins.tolist() == [0, 0, 0]
    figures = output.figures()
    assert figures["chosen_wins"].tolist() == figures["chosen_gain_variance"].tolist() == [0, 0, 0]
    with torch.no_grad():
        assert torch.equal(policy(**batch_of(policy, 2)).margins, output.margins)


def test_a_pair_is_the_same_whatever_its_neighbours_are(policy):
    policy.objective = PreferenceObjective()
    with torch.no_grad():
        whole = policy(**batch_of(policy, 2))
        for row in range(3):
            alone = policy(**batch_of(policy, 2, [row]))
            torch.testing.assert_close(alone.margins[0], whole.margins[row], rtol=1e-4, atol=1e-4)


def test_the_reference_is_frozen_shares_the_frozen_parts_and_is_not_saved(policy, tmp_path):
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert not any("reference" in name for name in trained) and any(".lora_A.default." in name for name in trained)
    encoders = [m for m in policy.modules() if type(m) is type(policy.whisper_model)]
    llms = [m for m in policy.modules() if type(m) is type(policy.llm_model)]
    assert len(encoders) == len(llms) == 1
    policy.save_pretrained(tmp_path)
    again = load_trainable_from(tmp_path)
    assert not torch.equal(again.reference["semantic_connector"].layernorm.weight,
                           policy.reference["semantic_connector"].layernorm.weight)  # fmt: skip


def load_trainable_from(folder) -> PreferenceModel:
    model = PreferenceModel.from_pretrained(folder, GOLDEN2 / "llada", GOLDEN2 / "whisper", merge_lora=False)
    model.prepare_training(4)
    return model


def test_large_margins_against_the_policy_stay_finite():
    """-log(sigmoid(-200)) is infinite in float32."""
    policy = torch.tensor([[0.0], [1000.0]], requires_grad=True)
    margins = margins_of(policy, torch.zeros(2, 1), 0.2)
    losses = losses_of(margins, policy, torch.ones(1), 0.0)
    losses.sum().backward()
    assert losses.item() == 200 and policy.grad[:, 0].tolist() == pytest.approx([-0.2, 0.2])


def test_figures_of_pairs():
    policy = torch.tensor([[[3.0], [5.0]], [[1.0], [1.0]]])  # [2, K 2, B 1]
    output = PreferenceOutput(None, None, torch.tensor([0.6]), policy, torch.ones(2, 2, 1))
    found = {name: value.item() for name, value in output.figures().items()}
    assert found == {
        "margin": pytest.approx(0.6), "chosen_wins": 1, "chosen_gain": 3, "rejected_gain": 0,
        "chosen_gain_variance": 2, "rejected_gain_variance": 0,
    }  # fmt: skip
    one_draw = PreferenceOutput(None, None, torch.tensor([0.6]), policy[:, :1], torch.ones(2, 1, 1))
    assert not any("variance" in name for name in one_draw.figures())

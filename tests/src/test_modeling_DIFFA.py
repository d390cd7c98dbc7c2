import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from src import masked_diffusion
from src.audio import log_mel
from src.checkpoint import CheckpointError
from src.configuration_DIFFA import ADAPTER_MODULES, STAGES
from src.llm_generate import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from tests import reference
from tests.conftest import GOLDEN, GOLDEN2, load_golden

close = {"rtol": 1e-4, "atol": 1e-4}


# -- figures of the published code ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [1, 2])
def test_speech_features_match_the_published_code_in_a_batch(model, golden, clips, stage):
    model.stage = stage
    embeds, lengths = model.get_speech_features(clips)
    for index in range(3):
        expected = golden[f"clip{index}.speech_stage{stage}"][0]
        assert lengths[index] == len(expected)
        torch.testing.assert_close(embeds[index, : lengths[index]], expected, **close)
        assert not embeds[index, lengths[index] :].any()


def golden_batch(case: dict, golden: dict, model: DIFFAModel, clips: list) -> dict:
    """A training batch of the golden data in this repository's form; the masks are the published code's own."""
    key = case["key"]
    features = model.feature_extractor(
        [clips[case["clip"]]] * 3,
        sampling_rate=16000,
        return_attention_mask=True,
        return_tensors="pt",
    )
    input_ids = golden[f"{key}.input_ids"]
    return {
        "input_features": features.input_features,
        "feature_attention_mask": features.attention_mask,
        "input_ids": input_ids,
        "labels": golden[f"{key}.labels"],
        "t": golden[f"{key}.t"][:, 0],
        "audio_position": torch.full((3,), 28),
        "text_attention_mask": torch.ones_like(input_ids),
        "num_answer_tokens": torch.tensor(input_ids.numel() - case["num_prompt_tokens"]),
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_loss_and_gradient_norms_match_the_published_code(golden, golden_cases, clips, stage):
    case = golden_cases["loss"][stage - 1]
    assert case["stage"] == stage
    model = load_golden()
    model.prepare_training(stage)
    loss = model(**golden_batch(case, golden, model, clips)).loss
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-4)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, norm in case["grad_norms"].items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-4), name
    assert {name.split(".")[0] for name in gradients} == set(STAGES[stage].trains)


OPTION_NAMES = ("steps", "block_length", "max_new_tokens", "cfg_scale", "temperature", "remasking")


def test_golden_generations_token_for_token(model, golden, golden_cases, clips):
    for case in golden_cases["generate"]:
        model.stage = case["stage"]
        options = GenerationOptions(**{name: case[name] for name in OPTION_NAMES})
        arguments = [clips[case["clip"]]], [case["question"]], options
        assert torch.equal(model.generate(*arguments, return_ids=True), golden[f"{case['key']}.answer_ids"])
        assert model.generate(*arguments) == [case["text"]]


def test_what_an_answer_took_comes_with_it(model, clips):
    questions = ["hello", "What can you hear from the audio?", "Is the speaker male?"]
    options = GenerationOptions(block_length=8, threshold=0.5, cache="dual", cfg_scale=0.5)
    answers = model.answer(clips, questions, options)
    assert answers.texts == model.generate(clips, questions, options)
    assert torch.equal(answers.ids, model.generate(clips, questions, options, return_ids=True))
    first, *_, end = model.decode(clips, questions, options)
    assert first.forward_passes.tolist() == [1, 1, 1] and (first.answer_ids != end.answer_ids).any()  # kept as it was
    assert torch.equal(answers.ids, end.answer_ids) and answers.forward_passes == end.forward_passes.tolist()
    skipped = [
        [model.tokenizer.decode([token], skip_special_tokens=True) != model.tokenizer.decode([token]) for token in row]
        for row in answers.ids.tolist()
    ]
    assert answers.num_tokens == [16 - sum(row) for row in skipped]
    assert answers.num_fixed == [16, 16, 16]


def test_tokens_that_no_pass_fixed_are_told_apart(model, clips):
    """In one answer the mask token wins a position to the end; another ends within its block, which is filled up."""
    question = ["What can you hear from the audio?"] * 3
    options = GenerationOptions(threshold=0.5, stop_at_eos=True, stop_in_block=True)
    answers, *_, end = model.answer(clips, question, options), *model.decode(clips, question, options)
    assert answers.num_fixed == [15, 16, 7]
    unfixed = answers.ids.where(end.confidence == 0, -1)
    eos_id, mask_id = model.llm_model.config.eos_token_id, model.llm_model.config.mask_token_id
    assert [(row == mask_id).sum().item() for row in unfixed] == [1, 0, 0]
    assert [(row == eos_id).sum().item() for row in unfixed] == [0, 0, 9]


# -- the loss against the plain way -----------------------------------------------------------------------------------


def mixed_batch(case: dict, golden: dict, model: DIFFAModel, clips: list, columns_without_text: int) -> dict:
    """Three clips of different lengths; the last columns of the first two rows hold no text."""
    batch = golden_batch(case, golden, model, clips)
    mixed = model.feature_extractor(clips, sampling_rate=16000, return_attention_mask=True, return_tensors="pt")
    batch |= {"input_features": mixed.input_features, "feature_attention_mask": mixed.attention_mask}
    if columns_without_text:
        batch["text_attention_mask"][:2, -columns_without_text:] = 0
        batch["labels"][:2, -columns_without_text:] = -100
    return batch


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("columns_without_text", [0, 5])
def test_loss_and_gradients_equal_the_plain_way(
    golden, golden_cases, clips, monkeypatch, stage, checkpointing, columns_without_text
):
    monkeypatch.setattr(masked_diffusion, "ROWS_AT_A_TIME", 7)
    model = load_golden()
    model.prepare_training(stage)
    model.train()
    batch = mixed_batch(golden_cases["loss"][stage - 1], golden, model, clips, columns_without_text)

    def loss_and_gradients(forward: Callable[[], torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # the acoustic adapter's dropout
        model.zero_grad()
        loss = forward()
        (3 * loss).backward()
        return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, expected = loss_and_gradients(lambda: reference.loss(model, batch))
    if checkpointing:
        model.gradient_checkpointing_enable()
    ours, gradients = loss_and_gradients(lambda: model(**batch).loss)
    assert ours == pytest.approx(plain, rel=1e-5)
    assert set(gradients) == set(expected) and {n.split(".")[0] for n in gradients} == set(STAGES[stage].trains)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in gradients.items():
        if name.endswith(".key.bias"):  # shifts all scores of a query alike: its gradient is nothing but rounding
            assert max(gradient.abs().max(), expected[name].abs().max()) < 1e-6 * largest
            continue
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5 * expected[name].abs().max().item())


def test_audio_is_embedded_as_the_published_code_does_it(clips):
    """The encoder's last layer is computed where it is read, and the Q-Former has neither keys nor values of frames."""
    model = load_golden()
    model.prepare_training(2)
    published = reference.as_published(model)
    features = log_mel(model.feature_extractor, clips)
    (plain, lengths), (ours, our_lengths) = published.encode_audio(*features), model.encode_audio(*features)
    assert torch.equal(our_lengths, lengths)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    for embeds in (plain, ours):
        (weights * embeds).sum().backward()
    largest = max(p.grad.abs().max().item() for p in published.parameters() if p.requires_grad)
    for (name, one), other in zip(model.named_parameters(), published.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5 * largest, msg=name)


def test_each_samples_loss_is_told(golden, golden_cases, clips):
    model = load_golden()
    batch = mixed_batch(golden_cases["loss"][1], golden, model, clips, 5)
    output = model(**batch)
    assert output.sample_losses.sum().item() / batch["num_answer_tokens"].item() == pytest.approx(output.loss.item())
    assert len(output.cross_entropy) == (batch["labels"] != -100).sum()
    for row in range(3):
        alone = {key: value if value.dim() == 0 else value[row : row + 1] for key, value in batch.items()}
        assert model(**alone).sample_losses.item() == pytest.approx(output.sample_losses[row].item(), rel=1e-4)


def test_autocast_hears_what_float32_states_would_give(clips):
    """With frozen parts in bf16 and adapters in float32, as --bf16 trains."""
    model = DIFFAModel.from_pretrained(
        GOLDEN / "diffa_upstream", GOLDEN / "llada", GOLDEN / "whisper", torch_dtype=torch.bfloat16,
        adapter_dtype=torch.float32,
    )  # fmt: skip
    seen = []
    model.acoustic_connector.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][2].dtype))
    features = log_mel(model.feature_extractor, clips)
    plain, _ = model.encode_audio(*features)
    with torch.autocast("cpu", torch.bfloat16):
        embeds, _ = model.encode_audio(*features)
    assert seen == [torch.float32, torch.bfloat16]
    assert torch.nn.functional.cosine_similarity(embeds.float(), plain.float(), dim=-1)[embeds.any(-1)].min() > 0.99


def test_no_graph_goes_through_the_frozen_encoder_and_layers_are_computed_again(golden, golden_cases, clips):
    model = load_golden()
    model.prepare_training(2)
    model.train()
    batch = golden_batch(golden_cases["loss"][1], golden, model, clips)
    heard, calls = [], []
    model.whisper_model.register_forward_hook(
        lambda module, inputs, output: heard.extend(filter(torch.is_tensor, output[0]))
    )
    for layer in (model.llm_model.blocks[0], model.acoustic_connector.qformer.layer[0]):
        layer.register_forward_pre_hook(lambda layer, _: calls.append(type(layer).__name__))
    model(**batch).loss.backward()
    assert heard and not any(states.requires_grad for states in heard)
    assert calls == ["BertLayer", "LLaDABlock"]
    calls.clear()
    model.gradient_checkpointing_enable()
    model(**batch).loss.backward()
    assert calls == ["BertLayer", "LLaDABlock", "LLaDABlock", "BertLayer"]


# -- a batch equals its members ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("cfg_scale", [0.0, 1.0])
def test_answers_do_not_depend_on_the_batch(model, clips, stage, cfg_scale):
    model.stage = stage
    questions = ["hello", "What can you hear from the audio?", "Question: is the speaker male?\n\nA. one\nB. two"]
    options = GenerationOptions(steps=8, block_length=4, max_new_tokens=8, cfg_scale=cfg_scale)
    together = model.generate(clips, questions, options, return_ids=True)
    alone = [model.generate([c], [q], options, return_ids=True) for c, q in zip(clips, questions, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("stage", [1, 2])
def test_a_clips_loss_does_not_depend_on_its_neighbours(golden, golden_cases, clips, stage):
    case = golden_cases["loss"][stage - 1]
    model = load_golden()
    model.prepare_training(stage)
    batch = golden_batch(case, golden, model, clips)
    mixed = model.feature_extractor(clips, sampling_rate=16000, return_attention_mask=True, return_tensors="pt")
    batch |= {"input_features": mixed.input_features, "feature_attention_mask": mixed.attention_mask}
    together = model(**batch).loss
    alone = sum(
        model(
            **{
                key: value if key == "num_answer_tokens" else value[row : row + 1]
                for key, value in batch.items()
            }
        ).loss
        for row in range(3)
    )  # fmt: skip
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)


def test_hidden_text_padding_does_not_count(golden, golden_cases, clips):
    """Columns with text_attention_mask 0 change nothing, whatever stands in them."""
    case = golden_cases["loss"][1]
    model = load_golden()
    batch = golden_batch(case, golden, model, clips)
    loss = model(**batch).loss.item()
    for name, fill in (("input_ids", 7), ("labels", -100), ("text_attention_mask", 0)):
        batch[name] = torch.cat((batch[name], torch.full((3, 4), fill)), dim=1)
    assert model(**batch).loss.item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_the_number_of_embeddings_is_known_before_they_are_computed(model, clips, stage):
    """Where a mel frame, or an embedding, has just begun or is just whole; two seconds give 25 embeddings."""
    model.stage = stage
    for num_samples in (1, 160, 161, 7 * 160 - 1, 7 * 160, 6 * 160 + 1, 14 * 160, 14 * 160 + 1, 15 * 160, 32_000):
        lengths = model.get_speech_features([clips[2][8000 : 8000 + num_samples]])[1]
        assert model.num_audio_embeddings(num_samples) == lengths.item(), num_samples
    assert model.num_audio_embeddings(32_000) == (20 if stage == 1 else 64) + 25


def test_clips_too_short_for_a_semantic_embedding_still_go_through(model, clips):
    short = clips[0][:800]  # 50 ms: 5 mel frames, 3 encoder frames, no semantic embedding
    embeds, lengths = model.get_speech_features([short])
    assert lengths.tolist() == [64] and embeds.shape == (1, 64, 64)
    questions = ["hello", "hello"]
    together = model.generate([short, clips[2]], questions, return_ids=True)
    assert torch.equal(together[:1], model.generate([short], questions[:1], return_ids=True))


# -- stages -----------------------------------------------------------------------------------------------------------


def test_stage_is_checked(model):
    with pytest.raises(ValueError, match="stage is 5; expected 1 or 2 or 3"):
        model.stage = 5


def test_a_stage_more_is_an_entry_of_the_table(model, clips, monkeypatch, tmp_path):
    """As of DIFFA-2, whose later stages hear what stage 2 hears."""
    heard, _ = model.get_speech_features(clips)
    monkeypatch.setitem(STAGES, 3, replace(STAGES[2], trains=("acoustic_connector",), starts_from=2))
    own = load_golden()
    own.prepare_training(3)
    assert {name.split(".")[0] for name, p in own.named_parameters() if p.requires_grad} == {"acoustic_connector"}
    assert torch.equal(own.get_speech_features(clips)[0], heard)
    assert own.num_audio_embeddings(16000) == model.num_audio_embeddings(16000)
    own.save_pretrained(tmp_path)
    assert {name.split(".")[0] for name in load_file(tmp_path / "model.safetensors")} == {"acoustic_connector"}
    assert load(tmp_path).stage == 3


def test_training_mode_leaves_the_frozen_parts_in_evaluation(model):
    model.train()
    assert model.acoustic_connector.training
    assert not any(m.training for part in (model.llm_model, model.whisper_model) for m in part.modules())
    model.eval()
    assert not any(m.training for m in model.modules())


def test_new_adapters_can_start_at_the_llms_embedding_scale(clips):
    model = DIFFAModel.from_frozen(GOLDEN / "llada", GOLDEN / "whisper")
    model.llm_model.embedding_weight.mul_(0.03)
    scale = model.llm_model.embedding_weight.square().mean().sqrt()

    def rms(module: str) -> float:
        model.stage = 1 if module == "trainable_prompts" else 2
        columns = slice(64, None) if module == "semantic_connector" else slice(0, 20)
        return model.get_speech_features(clips[:1])[0][:, columns].square().mean().sqrt()

    assert rms("semantic_connector") > 10 * scale  # as published: unit scale, not the LLM's
    model.match_embedding_scale(ADAPTER_MODULES)
    for module in ADAPTER_MODULES:
        assert rms(module).item() == pytest.approx(scale.item(), rel=0.15), module


def test_a_stage_that_trains_factors_needs_them():
    model = DIFFAModel.from_pretrained(GOLDEN2 / "diffa2_stage1", GOLDEN2 / "llada", GOLDEN2 / "whisper")
    with pytest.raises(ValueError, match="stage 3 trains LoRA factors: attach some to the model first"):
        model.prepare_training(3)


# -- checkpoints ------------------------------------------------------------------------------------------------------


def load(folder, **paths) -> DIFFAModel:
    return DIFFAModel.from_pretrained(
        folder, **({"llm_path": GOLDEN / "llada", "whisper_path": GOLDEN / "whisper"} | paths)
    )


@pytest.mark.parametrize("stage", [1, 2])
def test_a_trained_stage_saves_its_adapters_alone_and_loads_again(tmp_path, clips, stage):
    model = load_golden()
    model.prepare_training(stage)
    model.stage = stage
    features = model.get_speech_features(clips)[0]
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert {name.split(".")[0] for name in state} == set(STAGES[stage].trains)
    again = DIFFAModel.from_pretrained(tmp_path)  # the config remembers the frozen parts
    assert again.stage == stage and again.saved_modules == tuple(
        n for n in ADAPTER_MODULES if n in STAGES[stage].trains
    )
    torch.testing.assert_close(again.get_speech_features(clips)[0], features, rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_frozen_parts_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(GOLDEN)
    DIFFAModel.from_pretrained("diffa_upstream", "llada", "whisper").save_pretrained(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    again = DIFFAModel.from_pretrained("saved")
    remembered = [again.config.llm_model_id, again.config.whisper_model_id]
    assert remembered == [str(GOLDEN / "llada"), str(GOLDEN / "whisper")]


def test_a_published_checkpoint_saves_all_its_adapters(tmp_path, model):
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert {name.split(".")[0] for name in state} == set(ADAPTER_MODULES)
    again = load(tmp_path)
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())


def test_another_llm_width_is_an_error_with_both_values(tmp_path, model):
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields["llm_config"]["d_model"] = 4096
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "llada").mkdir()
    shutil.copy(GOLDEN / "llada" / "config.json", tmp_path / "llada")  # no weights: it is found out before they load
    with pytest.raises(CheckpointError, match=r"LLM with d_model 4096, but .*llada has 64; pass .* with --llm_path"):
        load(tmp_path, llm_path=tmp_path / "llada")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"llm_path": "no/such/folder"}, "the LLM .*: no folder 'no/such/folder', and it is not a hub name.*--llm"),
        ({"whisper_path": "./nothing"}, "the Whisper encoder: no folder './nothing'.*--whisper_path"),
        ({"llm_path": GOLDEN / "whisper"}, r"whisper/config\.json: model_type is 'whisper'; expected an LLM of type"),
        ({"whisper_path": GOLDEN / "llada"}, r"llada/config\.json: model_type is 'llada'; expected an encoder of"),
    ],
)  # fmt: skip
def test_wrong_paths_say_which_and_what_to_do(paths, message):
    with pytest.raises(ValueError, match=message):
        load(GOLDEN / "diffa_upstream", **paths)


def test_a_missing_checkpoint_folder_and_an_empty_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"the DIFFA checkpoint: no folder '/nowhere'.*--model_path"):
        load("/nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json is missing: .* not a complete checkpoint"):
        load(tmp_path)


def test_target_layers_can_be_configured(tmp_path):
    folder = tmp_path / "diffa"
    shutil.copytree(GOLDEN / "diffa_upstream", folder)
    fields = json.loads((folder / "config.json").read_text())
    fields["acoustic_connector_config"] = {"target_layer_ids": [1, 4, 7, 10]}
    (folder / "config.json").write_text(json.dumps(fields))
    assert load(folder).acoustic_connector.target_layer_ids == [1, 4, 7, 10]


def test_one_instruction_for_each_waveform(model, clips):
    with pytest.raises(ValueError, match="3 waveforms but 1 instructions"):
        model.generate(clips, ["hello"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loaded_in_two_bytes_it_hears_and_answers_as_in_float32(clips, dtype):
    model = DIFFAModel.from_pretrained(
        GOLDEN / "diffa_upstream", GOLDEN / "llada", GOLDEN / "whisper", torch_dtype=dtype
    )
    assert {p.dtype for p in model.parameters()} == {dtype}
    embeds, _ = model.get_speech_features(clips[:1])
    exact, _ = load_golden().get_speech_features(clips[:1])
    assert embeds.dtype == dtype
    assert torch.nn.functional.cosine_similarity(embeds.float(), exact, dim=-1).min() > 0.99
    options = GenerationOptions(steps=4, block_length=4, max_new_tokens=8)
    answer, exact = (next(m.decode(clips[:1], ["What is it?"], options)) for m in (model, load_golden()))
    assert (answer.confidence - exact.confidence).abs().max() < 0.1 * exact.confidence.max()


def test_waveforms_must_be_sound(model):
    with pytest.raises(ValueError, match="silent"):
        model.generate([np.zeros(16000, dtype=np.float32)], ["hello"])


def test_a_prompt_beyond_what_the_llm_was_trained_with_is_told(model, clips, caplog):
    options = GenerationOptions(steps=16, block_length=16, max_new_tokens=16)
    for question, told in (("word " * 500, False), ("word " * 3000, True)):
        caplog.clear()
        model.build_inputs(clips[:1], [question], options)
        messages = [record.getMessage() for record in caplog.records]
        assert (
            any("more than the 4096 that the LLM was trained with: shorten the text" in text for text in messages)
            is told
        )

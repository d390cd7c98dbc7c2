import math
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from src import modeling_llada, quantization
from src.audio import read_audio
from src.checkpoint import CheckpointError
from src.configuration_DIFFA import ROOT
from src.generation_options import PRESETS, GenerationOptions
from src.loading import LLM, MODEL, WHISPER
from src.lora import read_lora
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.quantization import QuantizedEmbedding, QuantizedLinear, QuantizedMatrix
from tests.conftest import GOLDEN, GOLDEN2

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CLIPS = {  # the miniature's, and what it answers
    "clip.wav": ("Which colour is named?", "brown"), "sheep.flac": ("Which animal is named?", "sheep"),
    "siren.flac": ("Which sound is it?", "siren"),
}  # fmt: skip


def rounded(weight: torch.Tensor, bits: int, dtype: torch.dtype, kind: type[QuantizedMatrix] = QuantizedLinear):
    matrix = kind(*weight.shape, bits)
    matrix.take(weight, dtype)
    return matrix


def whole(matrix: QuantizedMatrix) -> torch.Tensor:
    weight = torch.empty(matrix.rows, matrix.columns, dtype=matrix.scales.dtype)
    matrix.write_weight(weight, matrix.numbers, matrix.scales)
    return weight.float()


def test_an_odd_width_does_not_fit_4_bits():
    llm = LLaDAModel(replace(LLaDAModel.read_config(GOLDEN / "llada"), mlp_hidden_size=129))
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ff_out has 129 columns, of which int4 packs two in a byte"):
        quantization.quantize(llm, "int4")
    quantization.quantize(llm, "int8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_8_bits_are_at_most_half_a_step_off(dtype):
    weight = torch.randn(33, 200)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    matrix = rounded(weight, 8, dtype)
    # the scale and the product are rounded to the number format besides
    slack = weight.abs() * torch.finfo(dtype).eps
    assert ((whole(matrix) - weight).abs() <= 0.5 * step * (1 + torch.finfo(dtype).eps) + slack).all()
    assert (whole(matrix) - weight).norm() / weight.norm() < 0.01
    assert matrix.scales.dtype == dtype and matrix.numbers.min() >= -127


@pytest.mark.parametrize("dtype", DTYPES)
def test_4_bits_are_at_most_a_step_of_their_group_off(dtype):
    """A step is an eighth of the group's largest weight; half a step, unless the other sign lacks the eighth number."""
    weight = torch.randn(9, 512)
    groups = weight.unflatten(1, (4, 128))
    step = groups.abs().amax(dim=-1, keepdim=True) / 8
    matrix = rounded(weight, 4, dtype)
    error = (whole(matrix).unflatten(1, (4, 128)) - groups).abs() / step
    eps = 9 * torch.finfo(dtype).eps
    assert (error <= 1 + eps).all() and (error <= 0.5 + eps).float().mean() > 0.98
    assert (whole(matrix) - weight).norm() / weight.norm() < 0.11
    largest = groups.abs().argmax(dim=-1, keepdim=True)
    assert (error.gather(-1, largest) <= eps).all()  # the largest weight of each group is kept


@pytest.mark.parametrize("bits", [8, 4])
def test_whole_numbers_in_reach_come_back_as_they_were(bits):
    weight = torch.randint(-7, 8, (6, 96)).float()
    weight[:, ::32] = {8: -127.0, 4: -8.0}[bits]
    assert torch.equal(whole(rounded(weight, bits, torch.bfloat16)), weight)
    assert torch.equal(whole(rounded(torch.zeros(3, 32), bits, torch.float32)), torch.zeros(3, 32))


@pytest.mark.parametrize("bits", [8, 4])
def test_products_and_embeddings_are_those_of_the_rounded_matrix(bits, monkeypatch):
    """However many rows are taken at once, which take memory once."""
    monkeypatch.setattr(quantization, "ELEMENTS_ROUNDED_AT_ONCE", 7 * 64)
    weight, inputs, ids = torch.randn(50, 64), torch.randn(2, 3, 64), torch.tensor([[0, 49, 7], [7, 8, 0]])
    linear, embedding = rounded(weight, bits, torch.float32), rounded(weight, bits, torch.float32, QuantizedEmbedding)
    monkeypatch.setattr(quantization, "ELEMENTS_AT_ONCE_ON_CPU", 9 * 64)
    expected, calls, product = F.linear(inputs, whole(linear)), [], F.linear
    monkeypatch.setattr(quantization.F, "linear", lambda x, rows: (calls.append(rows), product(x, rows))[1])
    torch.testing.assert_close(linear(inputs), expected)
    assert [len(rows) for rows in calls] == [9, 9, 9, 9, 9, 5]
    assert len({rows.data_ptr() for rows in calls}) == 1  # all of them stand in one place: see `product`
    assert torch.equal(embedding(ids), whole(embedding)[ids])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_right_in_every_number_format(bits, dtype):
    """Of numbers as large as they get, too: in float16 their products alone would be infinite."""
    weight = torch.cat((torch.full((1, 256), 0.01), torch.randn(20, 256)))
    inputs = torch.cat((torch.full((1, 256), 10.0), torch.randn(4, 256))).to(dtype)
    matrix = rounded(weight, bits, dtype)
    exact = F.linear(inputs.double(), whole(matrix).double())
    found = matrix(inputs)
    assert found.dtype == dtype and found[0, 0].item() == pytest.approx(25.6, rel=4 * torch.finfo(dtype).eps)
    assert ((found - exact).norm() / exact.norm()).item() < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize(("to", "bits"), [("int8", 8), ("int4", 4)])
def test_an_llm_takes_the_bytes_of_the_formula(to, bits):
    """Blocks in the bits asked for, the vocabulary in 8; a scale a row, or in 4 bits a group of columns."""
    llm = LLaDAModel.from_pretrained(GOLDEN / "llada", torch.bfloat16, quantization=to)
    plain = LLaDAModel.from_pretrained(GOLDEN / "llada", torch.bfloat16)
    expected = 0
    for name, weight in plain.named_parameters():
        rows, columns = weight.shape if weight.ndim == 2 else (0, 0)
        own = bits if ".blocks." in name else 8
        scales = rows if own == 8 else rows * columns // math.gcd(columns, 128)
        expected += rows * columns * own // 8 + 2 * scales + 2 * (weight.numel() if weight.ndim == 1 else 0)
    found = sum(tensor.nbytes for tensor in [*llm.parameters(), *llm.buffers()])
    assert found == expected < {"int8": 0.53, "int4": 0.36}[to] * sum(p.nbytes for p in plain.parameters())
    assert (llm.quantization, plain.quantization) == (to, None)
    assert llm.dtype == plain.dtype == torch.bfloat16


def test_the_whole_llm_is_never_in_memory_while_it_is_rounded(monkeypatch):
    """One weight at a time, the largest first, when the least is held besides."""
    read, alive, sizes = modeling_llada.read_one_by_one, [], []

    def watched(folder):
        for name, tensor in read(folder):
            alive.append(weakref.ref(tensor))
            sizes.append(tensor.nbytes)
            yield name, tensor
            del tensor
            assert sum(ref() is not None for ref in alive) <= 1  # the loop's own, until it takes the next

    monkeypatch.setattr(modeling_llada, "read_one_by_one", watched)
    LLaDAModel.from_pretrained(GOLDEN / "llada", torch.float32, quantization="int8")
    assert len(sizes) > 10 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("to", ["int8", "int4"])
def test_lora_factors_are_in_the_weights_before_these_are_rounded(to):
    lora = read_lora(GOLDEN2 / "diffa2_stage4")
    merged = LLaDAModel.from_pretrained(GOLDEN2 / "llada", torch.float32, lora=lora)
    llm = LLaDAModel.from_pretrained(GOLDEN2 / "llada", torch.float32, lora=lora, quantization=to)
    name = next(iter(lora.factors)).removesuffix(".weight")
    expected = rounded(merged.get_submodule(name).weight, quantization.BITS[to], torch.float32)
    assert torch.equal(whole(llm.get_submodule(name)), whole(expected))


def test_logits_stay_close():
    plain = LLaDAModel.from_pretrained(LLM, torch.float32)
    ids = torch.arange(40).view(2, 20)
    expected = plain.project(plain(plain.embed(ids)))
    for to, most in (("int8", 0.01), ("int4", 0.1)):
        llm = LLaDAModel.from_pretrained(LLM, torch.float32, quantization=to)
        logits = llm.project(llm(llm.embed(ids)))
        assert logits.dtype == torch.float32
        assert (logits - expected).norm() / expected.norm() < most


@pytest.mark.parametrize("to", ["int8", "int4"])
def test_the_miniature_answers_as_before(to):
    model = DIFFAModel.from_pretrained(MODEL, LLM, WHISPER, quantization=to)
    waveforms = [read_audio(ROOT / "examples" / name) for name in CLIPS]
    questions, answers = zip(*CLIPS.values(), strict=True)
    for cache in ("none", "dual"):
        options = GenerationOptions(**{"max_new_tokens": 16, "steps": 16, **PRESETS["fast"], "cache": cache})
        texts = model.generate(waveforms, questions, options)
        assert [text.strip() for text in texts] == list(answers)


def test_rounded_weights_are_not_trained():
    model = DIFFAModel.from_frozen(GOLDEN2 / "llada", GOLDEN2 / "whisper", quantization="int8")
    message = "the LLM's weights are rounded to int8, which is for answering alone: load the model without"
    with pytest.raises(ValueError, match=message):
        model.prepare_training(1)
    with pytest.raises(ValueError, match=message):
        DIFFAModel.from_pretrained(
            GOLDEN2 / "diffa2_stage4", GOLDEN2 / "llada", GOLDEN2 / "whisper", merge_lora=False, quantization="int8"
        )

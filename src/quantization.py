"""The frozen LLM's weights in 8 or 4 bits: rounded as they arrive from the checkpoint, a matrix at a time.

Only weights are rounded; activations, products and norms keep the model's number format. Blocks take the bits that were
asked for. Token embeddings and the vocabulary projection are a quarter of an LLM whose blocks have 4 bits, and every
token goes through both: they take 8 bits in either case.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from src.checkpoint import CheckpointError

BITS = {"int8": 8, "int4": 4}  # of a weight in the blocks, by what --quantize says
VOCABULARY_BITS = 8
GROUP_COLUMNS = 128  # that share a scale, in 4 bits; in 8 bits a whole row does
LARGEST = {8: 127, 4: 8}  # magnitude in whole numbers; the 4 bits of -8 have no +8 beside them
# Weights that are back in the number format at once. On a CPU they stay in its cache between their rounding and the
# product; elsewhere, few operations are what counts.
ELEMENTS_AT_ONCE_ON_CPU, ELEMENTS_AT_ONCE = 1 << 20, 1 << 26
ELEMENTS_ROUNDED_AT_ONCE = 1 << 18  # in float32, with as much again beside them


class QuantizedMatrix(nn.Module):
    """A matrix [rows, columns] in whole numbers, with scales: weight = number * scale.

    Attributes:
        numbers: int8 [rows, columns], or in 4 bits [rows, columns / 2]: column j shares a byte with j + columns / 2.
        scales: in the model's number format, [rows, 1], or in 4 bits [rows, columns / G]; G divides `GROUP_COLUMNS`.
    """

    numbers: torch.Tensor
    scales: torch.Tensor

    def __init__(self, rows: int, columns: int, bits: int) -> None:
        super().__init__()
        self.rows, self.columns, self.bits = rows, columns, bits
        group = columns if bits == 8 else math.gcd(columns, GROUP_COLUMNS)
        self.register_buffer("numbers", torch.empty(rows, columns * bits // 8, dtype=torch.int8))
        self.register_buffer("scales", torch.empty(rows, columns // group))

    def take(self, weight: torch.Tensor, dtype: torch.dtype) -> None:
        """Round `weight` [rows, columns] and keep it where it is; what comes back has the number format `dtype`."""
        self.numbers = torch.empty(self.numbers.shape, dtype=torch.int8, device=weight.device)
        self.scales = torch.empty(self.scales.shape, dtype=dtype, device=weight.device)
        at_once = max(1, ELEMENTS_ROUNDED_AT_ONCE // self.columns)
        parts = (tensor.split(at_once) for tensor in (weight, self.numbers, self.scales))
        for some, numbers, scales in zip(*parts, strict=True):
            groups = some.float().unflatten(1, (scales.shape[1], -1))  # [n, columns / G, G]
            scales.copy_(scales_of(groups, self.bits))
            # divided by the scales as they are kept, so that their own rounding costs nothing
            rounded = (groups / scales.float()[..., None]).nan_to_num_(0).round_().clamp_(*limits(self.bits))
            numbers.copy_(packed(rounded.flatten(1).to(torch.int8), self.bits))

    def write_weight(self, weight: torch.Tensor, numbers: torch.Tensor, scales: torch.Tensor) -> None:
        """Write some rows of the matrix to `weight` [n, columns], from theirs of `numbers` and `scales`."""
        if self.bits == 8:
            torch.mul(numbers, scales, out=weight)
            return
        low, high = weight.chunk(2, dim=1)
        low.copy_((numbers << 4) >> 4)  # which keeps the sign
        high.copy_(numbers >> 4)
        weight.unflatten(1, (scales.shape[1], -1)).mul_(scales[..., None])

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs [..., columns], in the model's number format, times the matrix's transpose: [..., rows].

        A row of 8 bits has one scale, which its products take instead of its numbers: those are exact in every format,
        and there are fewer products. In float16 these could overflow before they are scaled.
        """
        elements = ELEMENTS_AT_ONCE_ON_CPU if self.numbers.device.type == "cpu" else ELEMENTS_AT_ONCE
        at_once = max(1, elements // self.columns)  # rows
        scaled_after = self.bits == 8 and inputs.dtype != torch.float16
        # One place for some rows after others. With new memory for each, the products that stay in between keep a CPU
        # from using it again, and in the end it holds the whole matrix: a gigabyte, of LLaDA's vocabulary.
        weight = inputs.new_empty(min(at_once, self.rows), self.columns)
        products = inputs.new_empty(*inputs.shape[:-1], self.rows)
        parts = (tensor.split(at_once) for tensor in (self.numbers, self.scales))
        for numbers, scales, some in zip(*parts, products.split(at_once, dim=-1), strict=True):
            rows = weight[: len(numbers)]
            if scaled_after:
                rows.copy_(numbers)
            else:
                self.write_weight(rows, numbers, scales)
            some.copy_(F.linear(inputs, rows))
        return products.mul_(self.scales[:, 0]) if scaled_after else products

    @property
    def num_bytes(self) -> int:
        return self.numbers.nbytes + self.scales.nbytes


class QuantizedLinear(QuantizedMatrix):
    """A linear layer without bias."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.product(inputs)


class QuantizedEmbedding(QuantizedMatrix):
    """A table of embeddings, of which a pass reads the rows that it needs."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, T, columns]."""
        rows = ids.flatten()
        weight = self.scales.new_empty(len(rows), self.columns)
        self.write_weight(weight, self.numbers[rows], self.scales[rows])
        return weight.unflatten(0, ids.shape)


def limits(bits: int) -> tuple[int, int]:
    return -LARGEST[bits], min(LARGEST[bits], 2 ** (bits - 1) - 1)


def scales_of(groups: torch.Tensor, bits: int) -> torch.Tensor:
    """The scale of each group of weights, [n, g] of [n, g, G]: the largest magnitude becomes the largest number.

    In 4 bits that is -8, so that the scale has the other sign than the weight (as llama.cpp's Q4_0 does it): half a
    step is gained on the 15 numbers that -7 to 7 would be.
    """
    if bits == 8:
        return groups.abs().amax(dim=-1) / LARGEST[bits]
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    return largest[..., 0] / -LARGEST[bits]


def packed(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """int8 [n, columns], or in 4 bits two columns a byte, as `QuantizedMatrix.numbers` has them."""
    if bits == 8:
        return numbers
    low, high = numbers.chunk(2, dim=1)
    return (low & 15) | (high << 4)


def quantize(llm: nn.Module, to: str) -> dict[str, QuantizedMatrix]:
    """Put quantised matrices, still empty, in the place of an LLM's linear layers and embeddings.

    Returns them by their weights' names; each takes its weight when that arrives. `to` is a key of `BITS`; the LLM
    stands on the meta device. Raises CheckpointError for a width that 4 bits do not fit.
    """
    places = [(name, layer) for name, layer in llm.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)]
    quantized = {}
    for name, layer in places:
        rows, columns = layer.weight.shape
        in_block = name.rpartition(".")[0].rpartition(".")[2].isdecimal()
        if in_block and BITS[to] == 4 and columns % 2:
            raise CheckpointError(f"{name} has {columns} columns, of which int4 packs two in a byte: choose int8")
        kind = QuantizedEmbedding if isinstance(layer, nn.Embedding) else QuantizedLinear
        matrix = kind(rows, columns, BITS[to] if in_block else VOCABULARY_BITS)
        llm.set_submodule(name, matrix)
        quantized[f"{name}.weight"] = matrix
    return quantized


def told(to: str) -> str:
    """What `quantize` does, for people."""
    return f"the LLM's weights are rounded to {to}, those of its vocabulary to int{VOCABULARY_BITS}"

"""A device that is not the CPU, for tests on machines without one. It computes on the CPU.

Inside `with simulated_device() as device:`, `device="sim"` is a place for tensors like any other. A tensor there
refuses to meet CPU tensors of one or more dimensions, and `device.waits` collects what a program would wait for on a
GPU: whatever brings a value or a shape to the CPU, and whatever is copied over. Unlike CUDA it refuses indices on the
CPU, too, which CUDA copies over, and waits for, in silence; and it lets a CPU generator fill its tensors.

PyTorch registers a device for good, and before the first backward pass. So tests use it in a process of its own,
through the fixture `simulated`: `simulated(function, *arguments)` calls a module's function there. What goes in and
comes back is pickled: numbers, lists and CPU tensors.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "sim"
SECONDS = 120  # a call may take, the first one's imports included

aten = torch.ops.aten
COPYING = {aten._to_copy.default, aten.copy_.default}  # the operations that tensors of two devices may meet in
# What needs a value on the CPU, or gives a tensor whose shape depends on values. PyTorch has more of this kind (unique,
# bincount, ...): add what comes to be used.
WAITING = {
    aten._local_scalar_dense.default,  # item, int, bool, float
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # with booleans they look for nonzero


class SimulatedTensor(torch.Tensor):
    """A tensor on the simulated device: it shows the shape and the device; `inner`, on the CPU, has the numbers."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "SimulatedTensor":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(NAME, 0),
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def tolist(self) -> list:
        return self.cpu().tolist()  # PyTorch's own refuses subclasses

    def __repr__(self) -> str:
        return f"SimulatedTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on the simulated device outside of `with simulated_device()`")


class SimulatedGenerator(torch.Generator):
    """A CPU generator that says it is on the simulated device."""

    def __new__(cls, device: str | torch.device = "cpu") -> "SimulatedGenerator":
        return super().__new__(cls)

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)

    def manual_seed(self, seed: int) -> "SimulatedGenerator":
        super().manual_seed(seed)
        return self

    @property
    def device(self) -> torch.device:
        return self._device


class SimulatedModule:
    """What PyTorch asks of `torch.sim`, as it asks `torch.cuda`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class SimulatedDevice(TorchDispatchMode):
    """Computes what PyTorch is asked for on the simulated device, as long as `simulated_device` lasts.

    Attributes:
        waits: what a program would have waited for so far; may be emptied at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # under inference_mode operations arrive undivided
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        here = any(isinstance(x, SimulatedTensor) for x in tensors)
        on_cpu = [tuple(x.shape) for x in tensors if x.dim() and not isinstance(x, SimulatedTensor)]
        if here and on_cpu and func not in COPYING:
            raise RuntimeError(f"{func}: tensors on the device meet CPU tensors of shapes {on_cpu}")
        there = here  # whether the result is on the device
        if func is aten.copy_.default:
            there = isinstance(args[0], SimulatedTensor)
        elif kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == NAME
            kwargs = kwargs | ({"device": torch.device("cpu")} if there else {})
        if wait := waits_for(func, args, here, there):
            self.waits.append(wait)
        result = func(*inner(args), **inner(kwargs))
        known = {id(inner(x)): x for x in tensors}  # what an operation in place returns

        def wrap(x: torch.Tensor) -> torch.Tensor:
            return known[id(x)] if id(x) in known else SimulatedTensor(x) if there else x

        with torch.inference_mode(False):  # views of weights, which are no inference tensors, must not be such either
            return tree_map_only(torch.Tensor, wrap, result)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`F.scaled_dot_product_attention` in one operation, as on CPUs and GPUs; for other devices PyTorch divides it."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """Inside, the device `sim` is there, in a process that called `register`."""
    with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as undo:
        monkeypatch.setattr(torch, "Generator", SimulatedGenerator)
        monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
        # `torch.tensor(..., device="sim")` fills a CPU tensor first, and moves that
        undo.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        # a refused operation in a device's own thread for backward passes would end the process
        undo.enter_context(torch.autograd.set_multithreading_enabled(False))
        yield undo.enter_context(SimulatedDevice())


def waits_for(func: Callable, args: tuple, here: bool, there: bool) -> str | None:
    """What a program waits for that calls an operation on tensors of which some are on the device (`here`), and gets
    its result there (`there`); None where it goes on at once.
    """
    if func in COPYING and here != there:
        return "copy to the device" if there else "copy to the CPU"
    if not here:
        return None
    if func in WAITING:
        return func.name().removeprefix("aten::").partition(".")[0]
    if func in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1]):
        return "nonzero"
    return None


def inner(values: Any) -> Any:
    """The same with CPU tensors in place of simulated ones."""
    return tree_map_only(SimulatedTensor, lambda x: x.inner, values)


def register() -> None:
    """Let PyTorch know the device. There is no way back."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, SimulatedModule())


@pytest.fixture(scope="module")
def simulated() -> Iterator[Callable]:
    """`simulated(function, *arguments)`: what the function returns in a process that knows the device."""
    with ProcessPoolExecutor(1, get_context("spawn"), register) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result(SECONDS)

"""The number format to compute in: bfloat16 where the machine gains by it, else float32. One rule for every script."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WITHOUT_FLOAT64 = {"mps": torch.float32}  # by a device's type, the widest format there instead
CPUINFO = Path("/proc/cpuinfo")
# What Linux calls the instructions that multiply bfloat16. With AVX512_BF16 alone AMD's CPUs are faster in it, but
# Intel's need not be (0.6 times as fast as in float32, on a Xeon of 2023 without its AMX): a measurement decides.
SURE_FLAGS = ("amx_bf16", "bf16")  # Intel's matrix unit; Arm
UNSURE_FLAGS = ("avx512_bf16", "avx10")
MIN_SPEEDUP = 1.2  # of measured products in bfloat16; less is not worth its rounding
# Square matrices, and products of each format. On a CPU so small and so many that some run undisturbed, whatever runs
# beside: with larger ones the choice changed from start to start on a busy machine, and a run could not be resumed.
PRODUCT_SIZE_ON_CPU, PRODUCTS_ON_CPU = 256, 200
PRODUCT_SIZE, PRODUCTS = 2048, 10


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What PyTorch makes in here without being told a number format has this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Precision:
    """A number format, and why it was chosen."""

    name: str  # of DTYPES
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    def __str__(self) -> str:
        return f"computing in {self.name}: {self.reason}"


def choose_precision(device: torch.device, asked: str = AUTO, cpuinfo: Path = CPUINFO) -> Precision:
    """The format asked for, one of DTYPES, else ("auto") the one that suits the device.

    A CPU is judged by `cpuinfo`, Linux's list of what it can do. Where that leaves open whether bfloat16 is faster, a
    small product is measured; but processes of one job must choose alike, and so take float32.
    """
    if asked != AUTO:
        return Precision(asked, "as asked for")
    if device.type == "cuda":
        return of_gpu(device)
    if device.type != "cpu":
        return measured(device, f"{device.type} devices differ")
    return of_cpu(device, cpuinfo)


def of_gpu(device: torch.device) -> Precision:
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    name = torch.cuda.get_device_name(device)
    if native:
        return Precision("bfloat16", f"{name} multiplies it in hardware")
    return Precision(
        "float32",
        f"{name} does not multiply bfloat16 in hardware (NVIDIA's GPUs do from Ampere on); for inference, "
        "--dtype float16 takes half the memory",
    )


def of_cpu(device: torch.device, cpuinfo: Path) -> Precision:
    fields = first_processor(cpuinfo)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    if not flags:
        return measured(device, f"{cpuinfo} tells no instructions")
    sure = [flag for flag in SURE_FLAGS if flag in flags]
    unsure = [flag for flag in sorted(flags) if flag.startswith(UNSURE_FLAGS)]
    if fields.get("vendor_id") == "AuthenticAMD":
        sure, unsure = sure + unsure, []
    if not sure and not unsure:
        return Precision("float32", "this CPU has no instructions that multiply bfloat16")
    if not torch.backends.mkldnn.is_available():
        return measured(device, "PyTorch was built without oneDNN, which uses such instructions")
    limits = [name for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    if limits:
        return measured(device, f"{limits[0]} limits the instructions")
    if not sure:
        return measured(device, f"of this CPU's instructions, {unsure[0]} may or may not be faster")
    return Precision("bfloat16", f"this CPU multiplies it in hardware ({sure[0]})")


def first_processor(cpuinfo: Path) -> dict[str, str]:
    """The fields of the first processor that `cpuinfo` lists; none without such a file."""
    if not cpuinfo.exists():
        return {}
    pairs = [line.partition(":") for line in cpuinfo.read_text(errors="replace").partition("\n\n")[0].splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def measured(device: torch.device, why: str) -> Precision:
    """By a measurement, unless other processes would have to come to the same result. `why`: it takes one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Precision("float32", f"{why}, and one of several processes does not measure")
    ratio = measured_speedup(device)
    name = "bfloat16" if ratio >= MIN_SPEEDUP else "float32"
    return Precision(name, f"{why}; a product in bfloat16 ran {ratio:.1f} times as fast as in float32")


@torch.inference_mode()
def measured_speedup(device: torch.device) -> float:
    """How many times as fast a product is in bfloat16 as in float32, each at its best; 0 where there is none."""
    on_cpu = device.type == "cpu"
    size, products = (PRODUCT_SIZE_ON_CPU, PRODUCTS_ON_CPU) if on_cpu else (PRODUCT_SIZE, PRODUCTS)
    matrices = [torch.ones(size, size, device=device)]
    try:
        matrices.append(matrices[0].bfloat16())
    except (RuntimeError, TypeError):  # Apple's GPUs under old systems
        return 0.0
    best = [float("inf"), float("inf")]
    for _ in range(products):
        for index, matrix in enumerate(matrices):
            start = time.perf_counter()
            (matrix @ matrix)[0, 0].item()  # waits for the device
            best[index] = min(best[index], time.perf_counter() - start)
    return best[0] / best[1]

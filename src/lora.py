"""LoRA (arXiv 2106.09685): low-rank updates of the LLM's weights, W + alpha / r * B A, under the names that PEFT gives.

DIFFA-2 trains them in stages 3 and 4. To answer, they are merged into the weights while the LLM loads.
"""

import math
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from src.checkpoint import CheckpointError, check_names, read_json, read_tensors, read_weight_file, weight_names

LLM_PREFIX = "llm_model."  # of the LLM's weights in a DIFFA checkpoint
PEFT_PREFIX = "base_model.model."  # that PEFT puts before a module's own names
FACTOR = re.compile(r"(?P<weight>.+)\.lora_(?P<half>[AB])(\.(?P<adapter>[^.]+))?\.weight")
IN_BLOCK = re.compile(r"\.\d+\.")  # names of weights in blocks count these
ADAPTER = "default"  # the adapter's name in what is written
REFERENCE = "reference"  # the name of factors that preference training compares with; they are not written
LORA_RANK, LORA_TARGETS = 8, ("q_proj", "k_proj", "v_proj", "ff_proj", "up_proj")  # of the published training
ALPHA_PER_RANK = 2  # of the published training, whose checkpoints store neither alpha nor r
PEFT_FOLDERS = (".", "lora_weights")  # within a checkpoint's folder; the second is where published training puts it
PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
PEFT_CONFIG = "adapter_config.json"
NOT_IMPLEMENTED = (  # fields of adapter_config.json that make the product another one
    "use_dora", "use_rslora", "fan_in_fan_out", "lora_bias", "alpha_pattern", "modules_to_save", "layers_to_transform",
    "trainable_token_indices",
)  # fmt: skip
ELEMENTS_AT_ONCE = 1 << 16  # of a weight that are in float32 while it is merged: what stays in a processor's cache


@dataclass(frozen=True)
class Factors:
    """The update of one weight [out, in], without its scale."""

    a: torch.Tensor  # float32 [r, in]
    b: torch.Tensor  # float32 [out, r]


@dataclass(frozen=True)
class LoRA:
    """The updates of an LLM."""

    factors: Mapping[str, Factors]  # by the weight's name in the LLM's own checkpoint
    alpha: float | None = None  # None: twice the rank

    @property
    def rank(self) -> int:
        """The highest, where they differ."""
        return max(len(factors.a) for factors in self.factors.values())

    def scale(self, name: str) -> float:
        return ALPHA_PER_RANK if self.alpha is None else self.alpha / len(self.factors[name].a)

    def check(self, shapes: Mapping[str, torch.Size]) -> None:
        """Raise CheckpointError naming the factors that do not fit an LLM with weights of these shapes."""
        matrices = {name for name, shape in shapes.items() if len(shape) == 2 and not name.endswith(".wte.weight")}
        unknown = [name for name in self.factors if name not in matrices]
        if unknown:
            raise CheckpointError(
                f"LoRA factors for {', '.join(unknown)}: this LLM has no such linear layer. Were they trained on "
                "another one? Pass the one they were trained on with --llm_path"
            )
        for name, factors in self.factors.items():
            found = (factors.b.shape[0], factors.a.shape[1])
            if found != tuple(shapes[name]):
                raise CheckpointError(
                    f"the LoRA factors for {name} make an update of shape {found}, but this LLM's weight has "
                    f"{tuple(shapes[name])}: pass the LLM they were trained on with --llm_path"
                )
        incomplete = sorted(name for name in self.same_in_every_block(shapes) if name not in self.factors)
        if incomplete:
            raise CheckpointError(
                f"LoRA factors for {', '.join(incomplete)} are missing; other blocks have them: copy "
                "the checkpoint again"
            )

    def same_in_every_block(self, shapes: Mapping[str, torch.Size]) -> set[str]:
        """The weights that correspond to the updated ones in other blocks, these included."""
        updated = {IN_BLOCK.sub(".*.", name) for name in self.factors}
        return {name for name in shapes if IN_BLOCK.sub(".*.", name) in updated}

    def merge(self, name: str, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`weight` [out, in] with its update in `dtype`: added in float32, rounded once.

        Where the weight has that dtype already, it is overwritten: an LLM never stands in memory twice.
        """
        a, b = self.factors[name].a.to(weight.device), self.factors[name].b.to(weight.device)
        merged = weight if weight.dtype == dtype else torch.empty_like(weight, dtype=dtype)
        num_rows = max(1, ELEMENTS_AT_ONCE // weight.shape[1])
        parts = (tensor.split(num_rows) for tensor in (merged, weight, b))
        for out, rows, b_rows in zip(*parts, strict=True):
            out.copy_(torch.addmm(rows.float(), b_rows, a, alpha=self.scale(name)))
        return merged

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The factors under the names of published checkpoints."""
        return {
            f"{LLM_PREFIX}{PEFT_PREFIX}{name.removesuffix('.weight')}.lora_{half}.{ADAPTER}.weight": tensor
            for name, factors in self.factors.items()
            for half, tensor in (("A", factors.a), ("B", factors.b))
        }


# -- reading -----------------------------------------------------------------------------------------------------------


def read_lora(folder: Path, alpha: float | None = None, use_lora: bool | None = None) -> LoRA | None:
    """The LoRA factors of a DIFFA checkpoint, wherever they stand in its folder; None if there are none.

    They come among its weights (published, and ours) or as a PEFT folder: `adapter_model.safetensors` beside them or
    in `lora_weights/`. `alpha` is what the checkpoint's `config.json` says of it; an `adapter_config.json` says it too.
    `use_lora` True insists on factors, False on none.

    Raises CheckpointError naming the weight for half a pair, two ranks in one pair, several adapters, and what is no
    plain LoRA.
    """
    names = [name for name in weight_names(folder) if is_peft(name)]
    own = pair(folder, read_tensors(folder, tuple(names)), LLM_PREFIX) if names else {}
    peft_folders = [folder / name for name in PEFT_FOLDERS if (folder / name / PEFT_CONFIG).is_file()]
    for file in peft_files(folder):
        beside = pair(file, read_weight_file(file), "")
        if own and not equal(own, beside):
            raise CheckpointError(f"{file} and the weights beside it hold different LoRA factors: remove one of them")
        own = own or beside
    if peft_folders and not own:
        raise CheckpointError(
            f"{peft_folders[0] / PEFT_CONFIG} is there, but no {' or '.join(PEFT_FILES)} beside it: copy it there"
        )
    for peft_folder in peft_folders:
        alpha = read_alpha(peft_folder / PEFT_CONFIG, own, alpha)
    if use_lora and not own:
        raise CheckpointError(
            f"{folder} holds no LoRA factors, but they were asked for: leave out --use_lora, or pass a checkpoint of "
            "DIFFA-2's stage 3 or 4 with --model_path"
        )
    if use_lora is False and own:
        raise CheckpointError(
            f"{folder} holds LoRA factors, and its adapters were trained with them: leave out --use_lora False"
        )
    return LoRA(own, alpha) if own else None


def has_lora(folder: Path) -> bool:
    """Whether a DIFFA checkpoint brings LoRA factors; they are not read."""
    return bool(peft_files(folder)) or any(is_peft(name) for name in weight_names(folder))


def is_peft(name: str) -> bool:
    """Whether a weight of a DIFFA checkpoint belongs to an update of the LLM."""
    return name.startswith(LLM_PREFIX) and ".lora_" in name


def published_name(name: str) -> str:
    """A LoRA factor's name in a published checkpoint, from its name in DIFFAModel; other names stay as they are."""
    return f"{LLM_PREFIX}{PEFT_PREFIX}{name.removeprefix(LLM_PREFIX)}" if is_peft(name) else name


def own_name(name: str) -> str:
    """A LoRA factor's name in DIFFAModel, from its name in a published checkpoint."""
    return LLM_PREFIX + name.removeprefix(LLM_PREFIX).removeprefix(PEFT_PREFIX)


def is_factor(name: str, adapter: str = ADAPTER) -> bool:
    """Whether a parameter, of an LLM or of DIFFAModel, is a LoRA factor: a trainable one, or one of another adapter."""
    return f".lora_A.{adapter}." in name or f".lora_B.{adapter}." in name


def llm_name(name: str) -> str:
    """A weight's name in the LLM's own checkpoint, from its name in a DIFFA checkpoint that holds the LLM as well."""
    return name.removeprefix(LLM_PREFIX).removeprefix(PEFT_PREFIX).replace(".base_layer.", ".")


def peft_files(folder: Path) -> list[Path]:
    """The PEFT weights in a checkpoint's folder."""
    places = [[folder / name / file for file in PEFT_FILES] for name in PEFT_FOLDERS]
    return [next(filter(Path.is_file, files)) for files in places if any(map(Path.is_file, files))]


def pair(where: Path, tensors: Iterable[tuple[str, torch.Tensor]], prefix: str) -> dict[str, Factors]:
    """The factors by the weight they update. Raises CheckpointError for what does not come in sound pairs."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    adapters = set()
    for name, tensor in tensors:
        match = FACTOR.fullmatch(name)
        if not match or not tensor.is_floating_point() or tensor.ndim != 2:
            raise CheckpointError(
                f"{where}: {name} is no LoRA factor ({tensor.dtype}, shape {tuple(tensor.shape)}); expected matrices "
                "....lora_A.weight and ....lora_B.weight of linear layers. Other kinds of update are not implemented"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{where}: {name} holds values that are not finite: the checkpoint is damaged, copy it again"
            )
        weight = match["weight"].removeprefix(prefix).removeprefix(PEFT_PREFIX) + ".weight"
        adapters.add(match["adapter"])
        halves.setdefault(weight, {})[match["half"]] = tensor.to(torch.float32, copy=True)
    if len(adapters) > 1:
        found = ", ".join(sorted(str(adapter) for adapter in adapters))
        raise CheckpointError(f"{where} holds several LoRA adapters ({found}); expected one")
    for weight, pair_of_halves in halves.items():
        for half in "AB":
            if half not in pair_of_halves:
                raise CheckpointError(
                    f"{where}: of the LoRA factors for {weight}, lora_{half} is missing: the "
                    "checkpoint is incomplete, copy it again"
                )
        a, b = pair_of_halves["A"], pair_of_halves["B"]
        if a.shape[0] != b.shape[1] or a.shape[0] == 0:
            raise CheckpointError(
                f"{where}: the LoRA factors for {weight} have shapes {tuple(a.shape)} (A) and {tuple(b.shape)} (B); "
                "expected [r, in] and [out, r] of one rank r"
            )
    return {weight: Factors(found["A"], found["B"]) for weight, found in halves.items()}


def read_alpha(path: Path, factors: Mapping[str, Factors], known: float | None) -> float | None:
    """alpha, by an `adapter_config.json`. Raises CheckpointError where that does not describe these plain factors."""
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: peft_type is {config.get('peft_type')!r}; only 'LORA' is implemented")
    other = [name for name in NOT_IMPLEMENTED if config.get(name)]
    other += ["bias"] if config.get("bias", "none") != "none" else []
    if other:
        found = ", ".join(f"{name} {config[name]!r}" for name in other)
        raise CheckpointError(f"{path}: {found}: only plain LoRA of linear layers is implemented")
    ranks = {len(pair.a) for pair in factors.values()}
    if ranks != {config.get("r")} and not config.get("rank_pattern"):
        raise CheckpointError(
            f"{path} has r {config.get('r')}, but the factors have {', '.join(map(str, ranks))}: copy "
            "both from one checkpoint"
        )
    alpha = config.get("lora_alpha")
    if known is not None and alpha is not None and alpha != known:
        raise CheckpointError(
            f"{path} has lora_alpha {alpha}, but the checkpoint's config.json {known}: which is it? Mend one of them"
        )
    return known if alpha is None else alpha


def equal(one: Mapping[str, Factors], other: Mapping[str, Factors]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].a, other[name].a) and torch.equal(one[name].b, other[name].b) for name in one
    )


# -- training ----------------------------------------------------------------------------------------------------------


def new_lora(llm: torch.nn.Module, rank: int, alpha: float | None, targets: Collection[str]) -> LoRA:
    """Factors for an LLM that change nothing yet: B is zero, A random, as PEFT draws it.

    `targets` names the layers, such as `q_proj`, in every block. Raises CheckpointError for one that no block has.
    """
    shapes = {name: parameter.shape for name, parameter in llm.named_parameters()}
    layers = {name: name.split(".")[-2] for name, shape in shapes.items() if IN_BLOCK.search(name) and len(shape) == 2}
    unknown = sorted(set(targets) - set(layers.values()))
    if unknown or rank < 1:
        raise CheckpointError(
            f"LoRA of rank {rank} for {', '.join(unknown or targets)}: expected a rank of at least 1, and layers out "
            f"of {', '.join(sorted(set(layers.values())))}"
        )
    factors = {}
    for name in (name for name, layer in layers.items() if layer in targets):
        a = torch.empty(rank, shapes[name][1])
        torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        factors[name] = Factors(a, torch.zeros(shapes[name][0], rank))
    return LoRA(factors, alpha)


def attach(llm: torch.nn.Module, lora: LoRA, dropout: float, adapter: str = ADAPTER) -> None:
    """Put factors beside an LLM's weights by PEFT: its linear layers become LoRA layers around them.

    Those of a second adapter go into the same layers, which use the first one's (`factors_in_use`).

    Raises CheckpointError for factors that do not fit, and for layers outside the blocks: the vocabulary projection is
    no layer in training (`masked_diffusion.projected_cross_entropy`).
    """
    from peft import LoraConfig, inject_adapter_in_model  # training alone needs it, and it takes seconds to import

    lora.check({name.replace(".base_layer.", "."): parameter.shape for name, parameter in llm.named_parameters()})
    outside = [name for name in lora.factors if not IN_BLOCK.search(name)]
    if outside:
        raise CheckpointError(
            f"LoRA factors for {', '.join(outside)} cannot be trained, only those of layers in blocks"
        )
    ranks = {name.removesuffix(".weight"): len(factors.a) for name, factors in lora.factors.items()}
    config = LoraConfig(r=lora.rank, rank_pattern=ranks, lora_dropout=dropout, target_modules=list(ranks))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of a second adapter: it is meant to be
        inject_adapter_in_model(config, llm, adapter_name=adapter)
    llm.train(llm.training)  # the new layers as well
    for name in ranks:
        layer = llm.get_submodule(name)
        for half in (layer.lora_A[adapter], layer.lora_B[adapter]):
            half.float().requires_grad_(False)
    set_factors(llm, lora, adapter)


def set_factors(llm: torch.nn.Module, lora: LoRA, adapter: str = ADAPTER) -> None:
    """Give an LLM's LoRA layers these factors, in place. Raises CheckpointError where they do not belong to them."""
    layers = {name.partition(".lora_")[0] for name, _ in llm.named_parameters() if is_factor(name, adapter)}
    updated = {name.removesuffix(".weight") for name in lora.factors}
    check_names("a checkpoint's set of LoRA factors", missing=layers - updated, unexpected=updated - layers)
    for name, factors in lora.factors.items():
        layer = llm.get_submodule(name.removesuffix(".weight"))
        layer.scaling[adapter] = lora.scale(name)
        with torch.no_grad():
            layer.lora_A[adapter].weight.copy_(factors.a)
            layer.lora_B[adapter].weight.copy_(factors.b)


def attached(llm: torch.nn.Module) -> tuple[int, float, tuple[str, ...]]:
    """The highest rank of the LoRA factors beside an LLM's weights, its alpha, and the layers of a block with them."""
    layers = [name.partition(".lora_A.")[0] for name, _ in llm.named_parameters() if f".lora_A.{ADAPTER}." in name]
    rank, scale = max((llm.get_submodule(name).r[ADAPTER], llm.get_submodule(name).scaling[ADAPTER]) for name in layers)
    return rank, rank * scale, tuple(sorted({name.rpartition(".")[2] for name in layers}))


def copy_factors(source: torch.nn.Module, llm: torch.nn.Module, adapter: str) -> None:
    """Give an LLM a second adapter: frozen copies of the factors that another LLM, or this one, is trained with."""
    layers = {name: module for name, module in source.named_modules() if hasattr(module, "lora_A")}
    pairs = {f"{name}.weight": (m.lora_A[ADAPTER].weight, m.lora_B[ADAPTER].weight) for name, m in layers.items()}
    lora = LoRA({name: Factors(a.detach(), b.detach()) for name, (a, b) in pairs.items()})
    before = [(parameter, parameter.requires_grad) for parameter in llm.parameters()]
    if not any(is_factor(name, adapter) for name, _ in llm.named_parameters()):
        attach(llm, lora, dropout=0.0, adapter=adapter)
    set_factors(llm, lora, adapter)
    for name, layer in layers.items():
        llm.get_submodule(name).scaling[adapter] = layer.scaling[ADAPTER]
    for parameter, trained in before:  # PEFT decides on its own, and takes the new adapter into use
        parameter.requires_grad_(trained)
    use_factors(llm, ADAPTER)


def use_factors(llm: torch.nn.Module, adapter: str) -> None:
    """Have an LLM compute with an adapter's factors."""
    for module in llm.modules():
        if hasattr(module, "lora_A"):
            module._active_adapter = [adapter]  # PEFT's `set_adapter` would also say what is trained


@contextmanager
def factors_in_use(llm: torch.nn.Module, adapter: str) -> Iterator[None]:
    """`use_factors` until the end of the context, then those that are trained."""
    use_factors(llm, adapter)
    try:
        yield
    finally:
        use_factors(llm, ADAPTER)

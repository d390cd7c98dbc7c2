"""Checkpoint folders: finding them, and reading their weights tensor by tensor."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from src.errors import UserError

# Formats of other frameworks that public repositories ship beside the ones read here.
FOREIGN_FORMATS = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.gguf", "*.fp32*"]
LFS_POINTER = b"version https://git-lfs"  # how the text begins that Git LFS leaves in a file's place


class CheckpointError(UserError):
    """A checkpoint that is missing, incomplete, or made for other parts; the message says what to do."""


def resolve(name_or_path: str | os.PathLike, what: str, flag: str) -> Path:
    """The folder of a checkpoint given as a folder or as a hub name such as `openai/whisper-small`.

    `what` and `flag` only serve the message: "the Whisper encoder", "--whisper_path".
    Raises CheckpointError when there is no such folder and the hub does not have it or cannot be reached.
    """
    name = str(name_or_path)
    if Path(name).is_dir():
        return Path(name)
    reason, example = "and it is not a hub name (owner/name)", "OWNER/NAME --local-dir FOLDER"
    looks_like_hub_name = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if looks_like_hub_name:
        try:
            folder = Path(snapshot_download(name, ignore_patterns=[*FOREIGN_FORMATS, "*.bin"]))
            if not any(folder.glob("*.safetensors")):  # many have both, and would be fetched twice
                folder = Path(snapshot_download(name, ignore_patterns=FOREIGN_FORMATS))
            return folder
        except Exception as error:  # the hub client raises many kinds, all of which mean: not to be had
            reason = f"and the Hugging Face hub did not give it ({type(error).__name__})"
            example = f"{name} --local-dir models/{name.rpartition('/')[2]}"
    raise CheckpointError(
        f"{what}: no folder {name!r}, {reason}. Pass an existing folder with {flag}, for example after "
        f"`huggingface-cli download {example}` where the hub can be reached."
    )


def identity(name_or_path: str | os.PathLike) -> str:
    """How a checkpoint remembers a frozen part: a folder by its absolute path, a hub name as it is."""
    return os.path.abspath(name_or_path) if os.path.isdir(name_or_path) else str(name_or_path)


def read_json(path: Path) -> dict:
    """Parse a checkpoint's JSON file; raises CheckpointError if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: {path.parent} is not a complete checkpoint folder, copy it again"
        ) from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): copy it again") from None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights: safetensors before pickles, one file before shards."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        single = folder / f"{stem}.{suffix}"
        if single.exists():
            return [single]
        index = folder / f"{single.name}.index.json"
        if index.exists():
            files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
            absent = [file.name for file in files if not file.exists()]
            if absent:
                raise CheckpointError(
                    f"{index} names shards that are not there: {', '.join(absent)}. Copy or download them"
                )
            return files
    raise CheckpointError(
        f"{folder} holds no weights: expected model.safetensors, pytorch_model.bin, or shards with an index"
    )


def read_tensors(folder: Path, prefixes: tuple[str, ...] = ("",)) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, CPU tensor) for every weight whose name starts with one of `prefixes`, one at a time.

    Nothing else is brought into memory: safetensors are read per tensor, pickles are mapped. Pickles are read with
    `weights_only=True`, so a file that would run code is refused. A tensor may be overwritten: its file stays as it is.
    Raises CheckpointError for a file that cannot be read.
    """
    for path in weight_files(folder):
        yield from read_weight_file(path, prefixes)


def read_one_by_one(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """What `read_tensors` yields, the largest first, and each is out of memory when the caller lets go of it.

    For what keeps no tensor as it is: a file stays in memory as far as it was read, until it is closed, so each
    tensor is read from a file that was opened for it. Pickles come as from `read_tensors`.
    """
    files = weight_files(folder)
    if files[0].suffix != ".safetensors":
        yield from read_tensors(folder)
        return
    places = []
    for path in files:
        with damage_explained(path):
            places += [(read().nbytes, path, name) for name, read in weights_in(path)]  # which reads the header alone
    for _, path, name in sorted(places, key=lambda place: place[0], reverse=True):
        with damage_explained(path), safe_open(path, framework="pt") as tensors:
            yield name, tensors.get_tensor(name)


def read_weight_file(path: Path, prefixes: tuple[str, ...] = ("",)) -> Iterator[tuple[str, torch.Tensor]]:
    """What `read_tensors` yields, of one file."""
    with damage_explained(path):
        for name, read in weights_in(path):
            if name.startswith(prefixes):
                yield name, read()


def weight_names(folder: Path) -> list[str]:
    """The names of all weights in a checkpoint folder. Raises CheckpointError for a file that cannot be read."""
    names = []
    for path in weight_files(folder):
        with damage_explained(path):
            names += [name for name, _ in weights_in(path)]
    return names


def weights_in(path: Path) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Each weight's name in one file, and what reads it while the iteration stands there."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is not a dict
                yield name, partial(tensors.get_tensor, name)
        return
    # files older than PyTorch 1.6 are not zip archives and cannot be mapped
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds something else than weights by name: a trainer's state?")
    for name in state:
        yield name, partial(state.__getitem__, name)


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Raise CheckpointError for whatever goes wrong while a weight file is read."""
    try:
        yield
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {damage_of(path, error)}") from None


def damage_of(path: Path, error: Exception) -> str:
    """What is wrong with a weight file, as far as can be told, and what to do."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            return f"Git LFS left a pointer in its place. Run `git lfs pull` in {path.parent}"
    reason, size = str(error).strip().partition("\n")[0], path.stat().st_size
    return f"{type(error).__name__}: {reason}. It has {size} bytes; if that is too few, download it again"


@contextmanager
def no_weights() -> Iterator[None]:
    """Modules made in here have shapes alone: their weights take neither memory nor time, and come by `assign`.

    PyTorch would draw them, on the meta device too, by way of its compiler: a second until that is imported.
    """
    from transformers.modeling_utils import no_init_weights  # late: src/optional_packages.py comes first

    with torch.device("meta"), no_init_weights():
        yield


def assign(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put `tensor` in the place of the parameter or buffer `name`, keeping whether it wants a gradient.

    Works on modules made under `no_weights`, so that weights never stand in memory twice.
    Raises CheckpointError when the shapes differ.
    """
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    current = getattr(owner, leaf)
    check_shape(name, tensor, current.shape)
    if isinstance(current, torch.nn.Parameter):
        tensor = torch.nn.Parameter(tensor, requires_grad=current.requires_grad)
    setattr(owner, leaf, tensor)


def check_shape(name: str, tensor: torch.Tensor, expected: torch.Size) -> None:
    """Raise CheckpointError for a weight that has another shape than the model's."""
    if tensor.shape != expected:
        raise CheckpointError(
            f"{name}: the checkpoint has shape {tuple(tensor.shape)}, the model expects {tuple(expected)}"
        )


def check_names(what: str, missing: set[str], unexpected: set[str]) -> None:
    """Raise CheckpointError naming every weight that is missing or was not expected."""
    problems = [
        f"{label}: {', '.join(sorted(names))}"
        for label, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit the model (is it another one's?); " + "; ".join(problems))

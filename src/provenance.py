"""Provenance of a run: versions of the packages, and fingerprints of the checkpoints it used."""

import hashlib
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "numpy", "soundfile", "av", "soxr")
MAX_HASHED = 10**9  # bytes; every process hashes at every start, and adapters of LLaDA-8B have 0.15 GB
# Of larger files, and of frozen parts: so many pieces of so many bytes, evenly spaced. Of 16 GB every 32 MB, so that
# adapters in one file with LLaDA-8B are among them; 16 MB are read.
NUM_PIECES, PIECE_BYTES = 512, 32 << 10


def versions() -> dict[str, str]:
    """Version of Python and of each package that can change a number."""
    return {"python": platform.python_version(), **{package: version_of(package) for package in PACKAGES}}


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, str | bool]:
    """The commit of this repository, and whether files that git tracks are changed; empty where git tells nothing."""
    command = ["git", "-C", str(Path(__file__).parents[1])]
    options = {"capture_output": True, "text": True, "check": True}
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run([*command, "status", "--porcelain", "--untracked-files=no"], **options).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "changed": bool(changed.strip())}


def code_fingerprint() -> dict[str, str]:
    """SHA-256 of each file that training runs: `train.py` and the modules of `src`."""
    root = Path(__file__).parents[1]
    return {str(path.relative_to(root)): sha256(path) for path in (root / "train.py", *sorted(root.glob("src/*.py")))}


def fingerprint(folder: Path, weights: bool) -> dict[str, str]:
    """SHA-256 of a checkpoint's `config.json`, and with `weights` of its weight files, a PEFT folder's included.

    Adapters are small enough to hash whole. For the frozen parts, gigabytes of weights, the files' sizes and pieces of
    them stand in ("16000000000 bytes, pieces 5d41..."); so they do for adapters published in one file with them.
    """
    from src.checkpoint import CheckpointError, weight_files  # PyTorch, which comparing fingerprints does not need
    from src.lora import peft_files

    result = {"config.json": sha256(folder / "config.json")}
    try:
        files = weight_files(folder)
    except CheckpointError:
        files = []
    for file in [*files, *peft_files(folder)]:
        size = file.stat().st_size
        whole = weights and size <= MAX_HASHED
        result[str(file.relative_to(folder))] = (
            sha256(file) if whole else f"{size} bytes, pieces {sha256_of_pieces(file)}"
        )
    return result


def is_same(before: Any, now: Any) -> bool:
    """Whether a recorded setting is as it was. Of files of that many bytes, earlier versions recorded no pieces."""
    sized = isinstance(before, str) and re.fullmatch(r"\d+ bytes", before)
    return before == now or bool(sized and isinstance(now, str) and now.startswith(f"{before}, pieces "))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_pieces(path: Path) -> str:
    """SHA-256 of pieces of a file, the first and the last among them; of all of it, where it is small."""
    digest, last = hashlib.sha256(), max(0, path.stat().st_size - PIECE_BYTES)
    with path.open("rb") as file:
        for start in sorted({last * number // (NUM_PIECES - 1) for number in range(NUM_PIECES)}):
            file.seek(start)
            digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()

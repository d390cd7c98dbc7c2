"""Writing files whole or not at all."""

from pathlib import Path


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)

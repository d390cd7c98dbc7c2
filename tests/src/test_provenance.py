import hashlib

from src import provenance
from src.provenance import fingerprint


def test_versions_are_told_also_of_what_is_missing(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert provenance.versions()["no-such-package"] == "not installed" and provenance.versions()["numpy"][0].isdigit()


def test_adapters_are_hashed_unless_they_lie_in_a_file_of_gigabytes(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    config = hashlib.sha256(b"{}").hexdigest()
    assert fingerprint(tmp_path, weights=True) == {"config.json": config}
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    sized = {"config.json": config, "pytorch_model.bin": f"7 bytes, pieces {digest}"}
    hashed = {"config.json": config, "pytorch_model.bin": digest}
    assert fingerprint(tmp_path, weights=False) == sized and fingerprint(tmp_path, weights=True) == hashed
    monkeypatch.setattr(provenance, "MAX_HASHED", 6)
    assert fingerprint(tmp_path, weights=True) == sized


def test_pieces_tell_files_of_one_size_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "NUM_PIECES", 3)
    monkeypatch.setattr(provenance, "PIECE_BYTES", 2)
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(11))
    before, changed = fingerprint(tmp_path, weights=False), []
    for place in range(11):
        file.write_bytes(bytes(place) + b"x" + bytes(10 - place))
        if fingerprint(tmp_path, weights=False) != before:
            changed.append(place)
    assert changed == [0, 1, 4, 5, 9, 10]


def test_adapters_in_one_file_with_the_llm_are_among_the_pieces():
    assert 16e9 / provenance.NUM_PIECES < 0.15e9 / 4 and provenance.NUM_PIECES * provenance.PIECE_BYTES < 20e6


def test_factors_in_a_folder_of_their_own_are_part_of_a_checkpoint(tmp_path):
    (tmp_path / "lora_weights").mkdir()
    for name in ("config.json", "model.safetensors", "lora_weights/adapter_model.safetensors"):
        (tmp_path / name).write_text(name)
    assert list(fingerprint(tmp_path, weights=True)) == [
        "config.json", "model.safetensors", "lora_weights/adapter_model.safetensors",
    ]  # fmt: skip

import hashlib

from src import provenance
from src.provenance import fingerprint, is_same


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


def test_a_size_recorded_without_pieces_is_that_of_the_file(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    now = fingerprint(tmp_path, weights=False)["model.safetensors"]
    assert is_same("7 bytes", now) and is_same(now, now) and is_same(None, None)
    for before in ("6 bytes", "17 bytes", "7 bytes, pieces 01ce", "7", "", None, 7):
        assert not is_same(before, now)
    assert not is_same(now, "7 bytes") and not is_same("7 bytes", None) and not is_same("7 bytes", "7 bytes more")


def test_adapters_in_one_file_with_the_llm_are_among_the_pieces():
    assert 16e9 / provenance.NUM_PIECES < 0.15e9 / 4 and provenance.NUM_PIECES * provenance.PIECE_BYTES < 20e6


def test_factors_in_a_folder_of_their_own_are_part_of_a_checkpoint(tmp_path):
    (tmp_path / "lora_weights").mkdir()
    for name in ("config.json", "model.safetensors", "lora_weights/adapter_model.safetensors"):
        (tmp_path / name).write_text(name)
    assert list(fingerprint(tmp_path, weights=True)) == [
        "config.json", "model.safetensors", "lora_weights/adapter_model.safetensors",
    ]  # fmt: skip

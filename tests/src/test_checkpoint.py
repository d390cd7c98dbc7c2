import json
from fnmatch import fnmatch

import pytest
import torch
from safetensors.torch import save_file

from src.checkpoint import CheckpointError, read_json, read_one_by_one, read_tensors, resolve, weight_files


def test_weight_files_prefers_safetensors_and_single_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no weights: expected model\.safetensors, pytorch_model\.bin"):
        weight_files(tmp_path)
    torch.save({"b": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert [f.name for f in weight_files(tmp_path)] == ["pytorch_model.bin"]
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert [f.name for f in weight_files(tmp_path)] == ["model.safetensors"]


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_read_by_prefix_in_both_formats(tmp_path, legacy):
    state = {"adapter.x": torch.arange(3.0), "frozen.y": torch.ones(5)}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    read = dict(read_tensors(tmp_path, ("adapter.",)))
    assert list(read) == ["adapter.x"] and torch.equal(read["adapter.x"], state["adapter.x"])


def test_weights_one_by_one_are_those_of_all_files_the_largest_first(tmp_path):
    shards = [{"a": torch.ones(2), "aa": torch.ones(5)}, {"b": torch.ones(9), "c": torch.ones(2)}]
    for number, state in enumerate(shards):
        save_file(state, tmp_path / f"model-{number}.safetensors")
    files = {name: f"model-{number}.safetensors" for number, state in enumerate(shards) for name in state}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert [(name, len(tensor)) for name, tensor in read_one_by_one(tmp_path)] == [
        ("b", 9), ("aa", 5), ("a", 2), ("c", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 100, 3000, -10])  # bytes of the file
def test_a_file_that_is_cut_short_is_to_be_downloaded_again(tmp_path, name, kept):
    state = {"a": torch.ones(500), "b": torch.ones(500)}
    save = save_file if name.endswith("safetensors") else torch.save
    save(state, tmp_path / name)
    content = (tmp_path / name).read_bytes()[:kept]
    (tmp_path / name).write_bytes(content)
    message = rf"{name} cannot be read as weights: .* It has {len(content)} bytes; if that is too few, download it"
    with pytest.raises(CheckpointError, match=message):
        dict(read_tensors(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_says_how_to_get_the_file(tmp_path, name):
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n")
    with pytest.raises(
        CheckpointError, match=rf"{name} cannot be read as weights: .* Run `git lfs pull` in .*{tmp_path.name}"
    ):
        dict(read_tensors(tmp_path))


def test_a_hub_name_that_cannot_be_had_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("src.checkpoint.snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"hub did not give it \(ConnectionError\).*--llm_path.*huggingface-cli"):
        resolve("owner/name", "the LLM", "--llm_path")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_of_two_formats_on_the_hub_one_is_fetched(tmp_path, monkeypatch, weights):
    fetched = []

    def hub(name, ignore_patterns):
        for file in ("pytorch_model.bin", weights):
            if not any(fnmatch(file, pattern) for pattern in ignore_patterns):
                (tmp_path / file).touch()
                fetched.append(file)
        return str(tmp_path)

    monkeypatch.setattr("src.checkpoint.snapshot_download", hub)
    assert resolve("owner/name", "the LLM", "--llm_path") == tmp_path
    assert set(fetched) == {weights}


def test_broken_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON"):
        read_json(tmp_path / "config.json")

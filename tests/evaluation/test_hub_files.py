import pyarrow
import pyarrow.parquet
import pytest

from evaluation.hub_files import find_files, open_parquet, read_records, split_of
from evaluation.parquet_audio import ParquetAudio, read_rows
from evaluation.result_files import BenchmarkFileError


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows) or [{"id": "x"}]), path)
    return path


def test_a_shard_stands_for_its_split_and_a_folder_for_its_only_one(tmp_path):
    shards = [write(tmp_path / "data" / f"train-0000{n}-of-00002.parquet") for n in range(2)]
    assert split_of(shards[0]) == "train"
    assert find_files(shards[1]) == find_files(tmp_path / "data") == find_files(tmp_path) == shards
    assert find_files(tmp_path / "mmsu.jsonl") == shards  # the usual file, which is not there
    older = [write(tmp_path / "old" / f"train-0000{n}-of-00002-{n}abcdef012345678.parquet") for n in range(2)]
    assert split_of(older[0]) == "train" and find_files(older[0]) == older
    other = write(tmp_path / "data" / "test.parquet")
    assert find_files(other) == [other]
    with pytest.raises(BenchmarkFileError, match=r"data holds several splits \(test, train\): pass a file of one"):
        find_files(tmp_path / "data")
    (tmp_path / "mmsu.jsonl").write_text("{}")
    assert find_files(tmp_path / "mmsu.jsonl") == [tmp_path / "mmsu.jsonl"]
    assert find_files(tmp_path / "none" / "x.json") == [tmp_path / "none" / "x.json"]


def test_missing_shards_are_named(tmp_path):
    shard = write(tmp_path / "train-00000-of-00003.parquet")
    with pytest.raises(BenchmarkFileError, match=r"holds 1 of the 3 files of train: download the others"):
        find_files(shard)


@pytest.mark.parametrize(
    "names",
    [
        ("test-00000-of-00001", "test-00000-of-00001-0123456789abcdef"),
        ("test-00000-of-00002", "test-00000-of-00002-0123456789abcdef"),  # as many as it says, and one is missing
        ("test-00000-of-00001", "test-00000-of-00002", "test-00001-of-00002"),
        ("test", "test-00000-of-00001"),
    ],
)
def test_two_revisions_of_a_split_are_not_taken_together(tmp_path, names):
    files = [write(tmp_path / f"{name}.parquet") for name in names]
    listed = ", ".join(sorted(file.name for file in files))
    for path in (files[0], tmp_path):
        with pytest.raises(BenchmarkFileError) as refused:
            find_files(path)
        assert str(refused.value) == f"{tmp_path} holds several versions of test ({listed}): keep the files of one"


@pytest.mark.parametrize("column", ["audio", "context"])
def test_rows_have_their_audio_apart(tmp_path, column):
    sounds = [{"bytes": b"RIFF", "path": None}, {"bytes": None, "path": "b.wav"}, None]
    path = write(tmp_path / "t.parquet", *({"id": n, column: sound} for n, sound in enumerate(sounds)))
    assert read_records(path) == [{"id": 0}, {"id": 1}, {"id": 2}]
    inside = ParquetAudio(path, 0, 0, column)
    assert read_rows(path) == [({"id": 0}, None, inside), ({"id": 1}, "b.wav", None), ({"id": 2}, None, None)]
    assert inside.read() == b"RIFF" and inside.size() == 4


def test_other_files_are_named(tmp_path):
    (tmp_path / "t.parquet").write_text("no")
    message = r"t\.parquet is not a Parquet file \(.*\)\. Get it"
    with pytest.raises(BenchmarkFileError, match=message), open_parquet(tmp_path / "t.parquet", "Get it"):
        pass

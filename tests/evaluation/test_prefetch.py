import threading
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from evaluation import parquet_audio, prefetch
from evaluation.parquet_audio import ParquetAudio
from evaluation.prefetch import batches_of, identity_of, new_readers, read_ahead, read_sounds, reading_order
from src.audio import AudioError, log_mel
from tests.conftest import GOLDEN


@pytest.fixture
def files(tmp_path):
    for name, size in (("a", 10), ("b", 30), ("c", 20)):
        (tmp_path / name).write_bytes(bytes(size))
    return [tmp_path / name for name in ("a", "gone", "b", "c")]


def test_files_go_by_size_and_keep_their_order_in_batches(files):
    order = reading_order(files)
    assert order == [2, 3, 0, 1]
    assert list(batches_of(order, files, 3)) == [[2, 3, 0], [1]]
    assert list(batches_of([3, 1], files, 2)) == [[3, 1]] and list(batches_of([], files, 2)) == []


def test_rows_go_by_row_group_and_by_size_within_one(files, tmp_path):
    path, sizes = tmp_path / "p", [1, 3, 2, 7, 9, 8, 4]
    table = pyarrow.table({"audio": [{"bytes": bytes(size)} for size in sizes]})
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    rows = [ParquetAudio(path, n // 3, n % 3) for n in range(7)]
    mixed = [rows[6], *files[:1], *rows[:6]]  # some other order, such as --swap_audio makes
    order = reading_order(mixed)
    assert order == [1, 2, 3, 4, 5, 6, 7, 0]
    parquet_audio.kept.clear()
    batches = batches_of(order, mixed, 2)
    assert [next(batches), list(parquet_audio.kept)] == [[1, 3], [(path, 0, "audio")]]
    assert list(batches) == [[4, 2], [6, 7], [5, 0]]


def test_the_next_batch_is_read_meanwhile():
    events, made = [], threading.Event()

    def batches():
        for batch in ([1], [2], [3]):
            events.append(f"made {batch}")
            yield batch

    def listen(batch):
        if batch == [2]:
            made.set()
        return [f"sound of {index}" for index in batch]

    ready = read_ahead(batches(), listen)
    assert next(ready) == ([1], ["sound of 1"])
    assert made.wait(10) and "made [3]" not in events
    assert list(ready) == [([2], ["sound of 2"]), ([3], ["sound of 3"])]
    assert list(read_ahead(iter([]), listen)) == []


def test_a_clip_is_read_once_whoever_asks_about_it(model, clips, tmp_path, monkeypatch):
    """Its features are those of the clips alone, in the order in which they first come."""
    read, files = [], [GOLDEN / f"clip{index}.wav" for index in (2, 0, 2, 1, 0)]
    read_audio = prefetch.read_audio
    monkeypatch.setattr(prefetch, "read_audio", lambda source, *args: read.append(source) or read_audio(source, *args))
    files.insert(1, tmp_path / "gone.wav")
    with new_readers() as readers:
        sounds = read_sounds(files, [f"audio of item {n}" for n in range(6)], model.feature_extractor, readers)
    assert sorted(read) == sorted(set(files))
    assert sounds.heard == [0, 2, 3, 4, 5] and sounds.clips == (0, 1, 0, 2, 1)
    assert "gone.wav: no such audio file" in str(sounds.waveforms[1])
    assert [len(sounds.waveforms[place]) for place in sounds.heard] == [len(clips[n]) for n in (2, 0, 2, 1, 0)]
    features, mask = log_mel(model.feature_extractor, [clips[2], clips[0], clips[1]])
    assert torch.equal(sounds.input_features, features) and torch.equal(sounds.feature_attention_mask, mask)


def test_what_is_wrong_with_a_sound_is_returned(model, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"audio": [{"bytes": b"nonsense"}]}), tmp_path / "p")
    (tmp_path / "damaged").write_bytes((tmp_path / "p").read_bytes()[:-20])
    audio = [Path("gone"), ParquetAudio(tmp_path / "p", 0, 0), ParquetAudio(tmp_path / "damaged", 0, 0)]
    parquet_audio.kept.clear()
    with new_readers() as readers:
        sounds = read_sounds(audio, ["item 1", "item 2", "item 3"], model.feature_extractor, readers)
    assert all(isinstance(error, AudioError) for error in sounds.waveforms)
    assert (sounds.heard, sounds.input_features, sounds.clips) == ([], None, ())
    gone, nonsense, damaged = map(str, sounds.waveforms)
    assert "gone: no such audio file" in gone
    assert nonsense.startswith("item 2: not readable as audio")
    assert "damaged row group 0, row 0: not readable" in damaged


def test_sounds_are_told_apart_wherever_they_lie(tmp_path):
    contents = [bytes(9000), bytes(9001), bytes(4500) + b"x" + bytes(4499), b"", b"x"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for number, content in enumerate(contents):
            (tmp_path / folder / f"{number}.wav").write_bytes(content)
    one, two = ([identity_of(tmp_path / folder / f"{n}.wav") for n in range(6)] for folder in ("one", "two"))
    assert one == two and len(set(one)) == 6
    parquet = tmp_path / "one" / "0.wav"
    rows = {identity_of(ParquetAudio(parquet, group, row)) for group in range(2) for row in range(2)}
    assert len(rows) == 4 and identity_of(ParquetAudio(tmp_path / "two" / "0.wav", 0, 0)) in rows

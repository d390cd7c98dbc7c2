import pyarrow
import pyarrow.parquet
import pytest

from evaluation import parquet_audio
from evaluation.parquet_audio import ParquetAudio, locate_audio
from src.audio import AudioError


def write(path, sounds, row_group_size=2, **options):
    table = pyarrow.table({"id": list(range(len(sounds))), "audio": sounds})
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size, **options)
    return path


def located(path):
    with pyarrow.parquet.ParquetFile(path) as parquet:
        return locate_audio(path, parquet)


@pytest.fixture(autouse=True)
def nothing_kept():
    parquet_audio.kept.clear()


@pytest.fixture
def read(monkeypatch):
    """The row groups that were read."""
    numbers, original = [], pyarrow.parquet.ParquetFile.read_row_group

    def read_row_group(self, number, **options):
        assert options == {"columns": ["audio.bytes"]}
        numbers.append(number)
        return original(self, number, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", read_row_group)
    return numbers


def test_audio_is_found_without_being_read_and_read_a_row_group_at_a_time(tmp_path, read):
    path = write(tmp_path / "a.parquet", [{"bytes": bytes([n]) * n, "path": "x"} for n in range(1, 8)])
    sounds = located(path)
    assert sounds == [ParquetAudio(path, n // 2, n % 2) for n in range(7)] and read == []
    assert [sound.size() for sound in sounds] == list(range(1, 8)) and read == [0, 1, 2, 3]
    assert list(parquet_audio.kept) == [(path, 2, "audio"), (path, 3, "audio")]
    assert [sound.read() for sound in sounds] == [bytes([n]) * n for n in range(1, 8)]
    assert read == [0, 1, 2, 3] * 2 and len(parquet_audio.kept) == parquet_audio.MAX_ROW_GROUPS


@pytest.mark.parametrize("statistics", [True, False])
def test_rows_without_audio(tmp_path, read, statistics):
    both, neither, no_bytes = {"bytes": b"x", "path": "p"}, None, {"bytes": None, "path": "p"}
    path = write(tmp_path / "a.parquet", [both, both, no_bytes, both, neither, no_bytes], write_statistics=statistics)
    found = [sound and (sound.row_group, sound.row) for sound in located(path)]
    assert found == [(0, 0), (0, 1), None, (1, 1), None, None]
    assert read == ([1] if statistics else [0, 1, 2])
    assert located(write(tmp_path / "b.parquet", [{"path": "p"}])) == [None]
    assert located(write(tmp_path / "c.parquet", ["p"])) == [None]


def test_a_damaged_row_group_and_a_lost_file_are_said_for_each_row(tmp_path):
    path = write(tmp_path / "a.parquet", [{"bytes": b"%d" % n} for n in range(4)], compression="zstd")
    first, second, third, _ = located(path)
    start = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert (first.size(), second.read(), third.size()) == (1, b"1", 0)
    with pytest.raises(AudioError, match=r"a\.parquet row group 1, row 0: not readable \("):
        third.read()
    parquet_audio.kept.clear()
    path.unlink()
    with pytest.raises(AudioError, match=r"a\.parquet row group 0, row 0: not readable \(.*No such file"):
        first.read()

import pytest

from src import files
from src.files import write_file


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write_file(path, b"old")

    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_text() == "old"


def test_a_link_is_followed_also_where_its_file_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    files.write_file(tmp_path / "link", "a \ud83d")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"a \\ud83d"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/stdout", "is a device"),
        ("/dev/null", "is a device"),
        ("folder", "is a folder"),
        ("file/out", "lies under"),
        ("n" * 300, "File name too long|the name has 300 bytes"),
        ("n" * 240, "the name has 240 bytes"),
        ("circle", "leads back to itself"),
    ],
)
def test_what_cannot_be_written_is_said_at_the_start(name, message, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(files.OutputError, match=message):
        files.check_outputs([tmp_path / name], [])


def test_what_was_given_is_not_written(tmp_path):
    (tmp_path / "in").write_text("text")
    (tmp_path / "hard").hardlink_to(tmp_path / "in")
    files.check_outputs([tmp_path / "out", None], [tmp_path / "in", None])
    for name in ("in", "hard", "../" + tmp_path.name + "/in"):
        with pytest.raises(files.OutputError, match="would be overwritten, and it is an input"):
            files.check_outputs([tmp_path / name], [tmp_path / "in"])
    with pytest.raises(files.OutputError, match="it is an input"):
        files.check_output_folder(tmp_path, [str(tmp_path)])

import errno

import pytest

from src.audio import AudioError
from src.errors import UserError, message_of, print_error, reports_user_errors


@pytest.fixture(autouse=True)
def script_name(monkeypatch):
    monkeypatch.setattr("sys.argv", ["somewhere/script.py", "--flag"])


def call(error: Exception | None, status: int = 0):
    @reports_user_errors
    def main(argv: list[str]) -> int:
        if error:
            raise error
        return status

    return main([])


def test_the_status_of_main_is_kept():
    assert call(None, 0) == 0 and call(None, 1) == 1


@pytest.mark.parametrize("kind", [UserError, AudioError])
def test_a_user_error_is_one_line_and_status_2(capsys, kind):
    assert call(kind("a.wav: is silent")) == 2
    assert capsys.readouterr() == ("", "script.py: a.wav: is silent\n")


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), FileNotFoundError(errno.ENOENT, "bug", "a")])
def test_other_exceptions_keep_their_traceback(error):
    with pytest.raises(type(error), match="bug"):
        call(error)


def test_what_the_file_system_refuses_is_reported(capsys):
    assert call(OSError(errno.ENOSPC, "No space left on device")) == 2
    assert "script.py: [Errno 28] No space left on device: make room and start" in capsys.readouterr().err
    assert call(PermissionError(errno.EACCES, "Permission denied", "/out.json")) == 2
    assert "Permission denied: '/out.json': pass another path" in capsys.readouterr().err


def test_an_error_of_a_worker_process_loses_the_traceback_in_its_message():
    wrapped = "Caught AudioError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    assert message_of(AudioError(wrapped + "src.audio.AudioError: /x.wav: is silent\n")) == "/x.wav: is silent"
    assert message_of(AudioError("/x.wav: is silent")) == "/x.wav: is silent"


def test_main_keeps_its_name_and_documentation():
    @reports_user_errors
    def main() -> int:
        """Does something."""

    assert (main.__name__, main.__doc__) == ("main", "Does something.")


def test_an_error_that_does_not_end_the_script_is_printed_the_same_way(capsys):
    print_error("2 answers could not be had")
    assert capsys.readouterr().err == "script.py: 2 answers could not be had\n"

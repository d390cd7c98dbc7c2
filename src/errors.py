"""Errors that the user can mend, and how every entry script reports them: one line, no traceback, exit status 2."""

import errno
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

# What the file system refuses: a full disk or quota, a place that may not be written to, a folder in a file's place.
FILE_SYSTEM_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
)

P = ParamSpec("P")
T = TypeVar("T")


class UserError(ValueError):
    """Something the user can mend. The message says what was found, what was expected and what to do."""


def print_error(message: object) -> None:
    """Print `script.py: message` to stderr."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


def reports_user_errors(main: Callable[P, T]) -> Callable[P, T | int]:
    """Decorate the main function of an entry script: on a UserError it prints the message and returns 2.

    The same goes for what the file system refuses. Other exceptions are bugs, and keep their tracebacks.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> T | int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print_error(message_of(error))
        except OSError as error:
            if error.errno not in FILE_SYSTEM_ERRORS:
                raise
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "make room and start the same command again" if is_full else "pass another path"
            print_error(f"{error}: {todo}")
        return 2

    return run


def message_of(error: UserError) -> str:
    """The error's own words; of one raised in a worker process of a DataLoader, without the traceback around them."""
    text = str(error)
    if "\nOriginal Traceback" not in text:
        return text
    last_line = text.rstrip().rpartition("\n")[2]
    return re.sub(r"^[\w.]+Error: ", "", last_line)

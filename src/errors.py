"""Errors that the user can mend, and how every entry script reports them: one line, no traceback, exit status 2."""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

# What the file system refuses: a full disk or quota, a place that may not be written to, a folder in a file's place.
FILE_SYSTEM_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    }
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

    The same goes for what the file system refuses, for arguments that are not UTF-8, and for standard output that is
    closed early (`| head`). A terminal that cannot show a character gets a question mark in its place. Other exceptions
    are bugs, and keep their tracebacks.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> T | int:
        sys.stdout.reconfigure(errors="replace")
        try:
            try:
                return main(*args, **kwargs)
            finally:
                sys.stdout.flush()  # now, where an error is caught, rather than when Python ends
        except UserError as error:
            print_error(message_of(error))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            print_error("standard output was closed before all was printed (as `| head` does)")
        except UnicodeEncodeError:
            foreign = [argument for argument in sys.argv if not is_unicode(argument)]
            if not foreign:
                raise
            print_error(f"the argument {foreign[0]!a} is no UTF-8 text; pass it in UTF-8, or rename the file")
        except OSError as error:
            if error.errno not in FILE_SYSTEM_ERRORS:
                raise
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "make room and start the same command again" if is_full else "pass another path"
            print_error(f"{error}: {todo}")
        return 2

    return run


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: no half of a surrogate pair, as JSON's \\u and arguments in Latin-1 bring them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def message_of(error: UserError) -> str:
    """The error's own words; of one raised in a worker process of a DataLoader, without the traceback around them."""
    text = str(error)
    if "\nOriginal Traceback" not in text:
        return text
    last_line = text.rstrip().rpartition("\n")[2]
    return re.sub(r"^[\w.]+Error: ", "", last_line)

"""Types of command-line flags: numbers within bounds, and texts that say something."""

import argparse
import math
import re
from collections.abc import Callable

from src.errors import is_unicode
from src.text_faults import faults_of

MAX_PORT = 65535


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A flag's type: a whole number within the bounds, both included."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number; expected one such as {max(minimum, 1)}"
            ) from None
        if number < minimum or (maximum is not None and number > maximum):
            bounds = f"at least {minimum}" + ("" if maximum is None else f" and at most {maximum}")
            raise argparse.ArgumentTypeError(f"{number} is out of bounds; it must be {bounds}")
        return number

    return parse


def positive_number(text: str) -> float:
    """A flag's type: a number above 0, neither infinite nor nan."""
    number = finite_number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is out of bounds; it must be more than 0")
    return number


def fraction(text: str) -> float:
    """A flag's type: a number from 0 to 1."""
    number = finite_number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is out of bounds; it must be from 0 to 1")
    return number


def finite_number(text: str) -> float:
    """A flag's type: any number but the infinite ones and nan."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected one such as 0.5") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no finite number; expected one such as 0.5")
    return number


def text_flag(text: str) -> str:
    """A flag's type: a text that is not empty, that UTF-8 can hold, and without control tokens or characters."""
    if not is_unicode(text):
        raise argparse.ArgumentTypeError(f"{text!a} is no UTF-8 text; pass it in UTF-8")
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is empty; expected a text")
    for fault in faults_of(text):
        raise argparse.ArgumentTypeError(f"{text!a} {fault}")
    return text


def language_code(text: str) -> str:
    """A flag's type: a language's code by ISO 639, two letters or three; what follows a hyphen (zh-TW) is dropped."""
    code = re.fullmatch(r"([a-z]{2,3})([-_].*)?", text.lower())
    if code is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no language's code; expected one such as en, de or ja")
    return code[1]

"""Text in figures: fonts for names in any script, and long names in lines."""

import re
import unicodedata
from collections.abc import Sequence

import matplotlib
import matplotlib.font_manager
import matplotlib_fontja  # brings a font with Japanese letters, and Chinese ones that Japanese has

# For what that font lacks, other letters of Chinese, and Korean. Each letter is taken from the first that has it.
FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei", "NanumGothic",
    "PingFang SC", "Apple SD Gothic Neo", "Microsoft YaHei", "Malgun Gothic",
)  # fmt: skip
OPENING = "([{（［「『【〈《"
INCHES_A_LETTER, INCHES_OF_A_MARK = 0.078, 0.55  # of a legend's text at 9 points


def use_fonts() -> None:
    """Let figures take letters that Matplotlib's own font lacks from another one."""
    there = {font.name for font in matplotlib.font_manager.fontManager.ttflist}
    others = [name for name in (*FONTS, matplotlib_fontja.matplotlib_fontja.FONT_NAME) if name in there]
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", *others]


def wrap_name(name: str, width: int) -> str:
    """`name` in lines of at most `width` letters, broken behind spaces and - _ . / where it has any.

    Letters of Chinese, Japanese and Korean count twice.
    """
    lines, line = [], ""
    for part in re.findall(r"[^\s\-_./]*[\s\-_./]+|[^\s\-_./]+", name):
        if line and width_of(line + part.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        for letter in part:
            if width_of((line + letter).rstrip()) > width:
                opening = line[-1] if len(line) > 1 and line[-1] in OPENING else ""  # belongs to what follows
                lines.append(line.removesuffix(opening).rstrip())
                line = opening
            line += letter
    return "\n".join([*lines, line.rstrip()] if line.strip() else lines)


def width_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def columns_of(names: Sequence[str], inches: float) -> int:
    """How many columns of a legend fit into a width: three at most."""
    widest = max((width_of(line) for name in names for line in name.split("\n")), default=1)
    return max(1, min(3, int(inches / (INCHES_OF_A_MARK + INCHES_A_LETTER * widest))))

"""Subtitles: SubRip (SRT) and WebVTT."""

import html

FORMATS = ("srt", "vtt")
HEADERS = {"srt": "", "vtt": "WEBVTT\n\n"}


def subtitle(kind: str, number: int, start: float, end: float, text: str) -> str:
    """One cue of a format, with the empty line behind it; `number` from 1, `start` and `end` in seconds."""
    lines = "\n".join(line for line in text.strip().splitlines() if line.strip())  # an empty line would end the cue
    if kind == "vtt":
        return f"{timestamp(start, '.')} --> {timestamp(end, '.')}\n{html.escape(lines, quote=False)}\n\n"
    return f"{number}\n{timestamp(start, ',')} --> {timestamp(end, ',')}\n{lines}\n\n"


def timestamp(seconds: float, point: str) -> str:
    """`01:02:03.450`, with `point` before the milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"

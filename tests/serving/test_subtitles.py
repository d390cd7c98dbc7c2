import pytest

from serving.subtitles import subtitle, timestamp


def test_a_cue_of_srt_and_one_of_webvtt():
    assert subtitle("srt", 2, 30, 3661.0456, " one\n\n two ") == "2\n00:00:30,000 --> 01:01:01,046\none\n two\n\n"
    assert subtitle("vtt", 2, 30, 90, "a --> b & c") == "00:00:30.000 --> 00:01:30.000\na --&gt; b &amp; c\n\n"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (360000.5, "100:00:00.500")]
)
def test_times_are_rounded_to_milliseconds(seconds, expected):
    assert timestamp(seconds, ".") == expected

import pytest

from src.audio import AudioFacts
from src.manifest import Entry
from src.manifest_rules import (
    audio_file,
    empty_texts,
    id_of,
    problems_of_audio,
    problems_of_length,
    problems_of_text,
    repeated_ids,
)


def entry(place: str = "entry 1", **value) -> Entry:
    return Entry(place, value, [])


def test_an_entrys_name_and_file(tmp_path):
    assert id_of(entry(audio_id="café")) == "caf\\xe9"
    assert [id_of(e) for e in (entry(), entry(audio_id=""), entry(audio_id=3), Entry("", "text", []))] == [
        "(no id)"
    ] * 4
    assert audio_file(entry(audio_filepath="a.wav"), tmp_path) == tmp_path / "a.wav"
    assert audio_file(entry(audio_filepath=3), tmp_path) is None and audio_file(Entry("", None, []), tmp_path) is None


def test_empty_texts_are_named():
    assert list(empty_texts(entry(audio_id="a", target=" \n", transcription=""))) == [
        "target is empty",
        "transcription is empty",
    ]
    assert not list(empty_texts(entry(audio_id="a", target="b", transcription="", transcribed=False)))
    assert not list(empty_texts(entry(target=None)))  # of another type: said elsewhere


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (0.1, []),
        (30.0, []),
        (0.0999, ["lasts 0.100 s; clips must last at least 0.1 s"]),
        (30.01, ["lasts 30.01 s; what comes after 30 s is not heard"]),
    ],
)
def test_lengths(seconds, found):
    assert list(problems_of_length(seconds, 30)) == found


@pytest.mark.parametrize(
    ("facts", "told", "found"),
    [
        (AudioFacts(2.0, 0.0), 2.09, []),
        (AudioFacts(2.0, 0.0), 2.11, ["duration is 2.11 s, but the file lasts 2.00 s"]),
        (AudioFacts(2.0, 0.0), "2", []),  # of another type: said elsewhere
        (AudioFacts(2.0, 0.02), 2.0, []),
        (AudioFacts(2.0, 0.03), 2.0, ["the file is cut: 2.00 s are left, the header promises 0.03 more"]),
    ],
)
def test_files_against_what_is_told_of_them(facts, told, found):
    assert list(problems_of_audio(facts, told, 30)) == found


def test_ids_that_are_there_before():
    entries = [entry(f"entry {n}", audio_id=name) for n, name in enumerate(["a", "b", "a", None, None, "a"])]
    assert list(repeated_ids(entries)) == [(2, "entry 0"), (5, "entry 0")]


@pytest.mark.parametrize(
    ("prompt", "answer", "found"),
    [
        (10, 6, []),
        (10, 7, ["prompt and answer have 10 + 7 tokens; the answer is cut at 16"]),
        (16, 1, ["the prompt has 16 tokens, which leaves no room for an answer in 16"]),
    ],
)
def test_text_lengths(prompt, answer, found):
    assert list(problems_of_text(prompt, answer, 16)) == found

import random
from dataclasses import replace
from pathlib import Path

import pytest

from src.manifest import ManifestError, Sample
from src.text_lengths import check_text_lengths, load_tokenizer, over_limit, problems_of_text, text_lengths
from tests.conftest import GOLDEN

LLM = str(GOLDEN / "llada")
SAMPLE = Sample("a", Path("a.wav"), "What is said?", "red blue", "red blue", "d", 1.0, {})


def test_whatever_is_over_the_limit_is_found_though_few_texts_are_tokenized():
    rng, words = random.Random(0), ["word ", "x", "é", "日本", "<|eot_id|>", "\n", "zzz ", "\U0001f600"]
    samples = [
        replace(
            SAMPLE,
            input="".join(rng.choices(words, k=rng.randrange(60))),
            target="".join(rng.choices(words, k=rng.randrange(60))),
            rejected=rng.choice([None, "".join(rng.choices(words, k=rng.randrange(60)))]),
        )
        for _ in range(200)
    ]
    tokenizer = load_tokenizer(LLM)
    whole = text_lengths(dict(enumerate(samples)), tokenizer)
    worse = {i: replace(sample, target=sample.rejected) for i, sample in enumerate(samples) if sample.rejected}
    pairs = text_lengths(worse, tokenizer)
    for limit in (60, 120, 200, 2048):
        expected = {
            i for lengths in (whole, pairs) for i, (prompt, answer) in lengths.items() if prompt + answer > limit
        }
        found = over_limit(samples, LLM, limit)
        assert found.keys() == expected
        for index in found.keys() & whole.keys():
            prompt, answer = whole[index]
            if prompt + answer > limit:
                assert [found[index]] == list(problems_of_text(prompt, answer, limit))


def test_where_no_text_is_long_nothing_is_loaded():
    assert over_limit([SAMPLE] * 3, "/nowhere", 2048) == {}


def test_the_tokenizer_is_loaded_once_for_both_answers(monkeypatch):
    loaded = []
    monkeypatch.setattr("src.text_lengths.load_tokenizer", lambda path: loaded.append(path) or load_tokenizer(path))
    long = replace(SAMPLE, rejected="many words " * 99, target="many words " * 98)
    assert set(over_limit([long], LLM, 40)) == {0} and loaded == [LLM]


def test_all_are_named_and_too_many_refused():
    long = [replace(SAMPLE, audio_id=f"long{n}", input="word " * 100) for n in range(12)]
    cut = replace(SAMPLE, audio_id="caf\u00e9", target="word " * 60)
    samples = [SAMPLE, *long, cut]
    with pytest.raises(ManifestError) as caught:
        check_text_lengths("m.json", samples, LLM, 100, 0.5)
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "manifest m.json: texts of 13 of 14 entries are over --max_length 100 tokens, and --max_bad_fraction 0.5 "
        "allows fewer: shorten them, or raise --max_length"
    )
    assert lines[1].startswith("long0: the prompt has ") and lines[1].endswith(
        "which leaves no room for an answer in 100"
    )
    assert len(lines) == 12 and lines[-1] == r"and long10, long11, caf\xe9"
    told = check_text_lengths("m.json", [*[SAMPLE] * 9, cut], LLM, 100, 0.1).split("\n")
    assert told[0] == "manifest m.json: texts of 1 of 10 entries are over --max_length 100 tokens"
    assert told[1].startswith(r"caf\xe9: prompt and answer have ") and "the answer is cut at 100" in told[1]
    assert check_text_lengths("m.json", [SAMPLE], LLM, 100, 0) == ""

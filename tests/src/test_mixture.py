"""Which samples of several manifests an epoch draws, and the flag that names them."""

import numpy as np
import pytest

from src.data_sampler import TrainingSampler
from src.manifest import ManifestError
from src.mixture import Mixture, parse_mixture

QA_AND_ASR = Mixture((95, 40), (0.95, 0.05))


def drawn(mixture: Mixture, epochs: int, seed: int = 1) -> list[list[int]]:
    return [mixture.drawn(seed, epoch).tolist() for epoch in range(epochs)]


def test_an_epoch_is_a_pass_over_the_first_manifest_and_a_share_of_the_others():
    assert QA_AND_ASR.shares == (0.95, 0.05) and QA_AND_ASR.counts == (95, 5)
    for epoch in drawn(QA_AND_ASR, 3):
        assert epoch[:95] == list(range(95)) and len(set(epoch[95:])) == 5 and set(epoch[95:]) <= set(range(95, 135))
    assert Mixture((95, 40), (19, 1)).counts == (95, 5), "weights are relative"
    assert Mixture((10, 5, 5), (2, 1, 1)).counts == (10, 5, 5)
    assert Mixture((8, 40), (0.999, 0.001)).counts == (8, 1), "what is named is seen"
    assert Mixture((7,)).drawn(3, 5).tolist() == list(range(7))


@pytest.mark.parametrize("size", [3, 5, 40])
def test_no_sample_comes_twice_before_all_have_come_once(size):
    """Over epochs: also where an epoch takes more from a manifest than it holds."""
    mixture = Mixture((95, size), (0.95, 0.05))
    walk = [index for epoch in drawn(mixture, 24) for index in epoch[95:]]
    assert len(walk) == 24 * 5
    for start in range(0, len(walk) - size + 1, size):
        assert sorted(walk[start : start + size]) == list(range(95, 95 + size))
    passes = [tuple(walk[start : start + size]) for start in range(0, len(walk) - size + 1, size)]
    assert len(passes) < 6 or len(set(passes)) > 3, "each pass has an order of its own"


def test_what_is_drawn_is_a_function_of_seed_and_epoch():
    first = QA_AND_ASR.drawn(1, 7)
    np.random.seed(9)
    assert np.array_equal(QA_AND_ASR.drawn(1, 7), first)  # with no epoch before it
    assert not np.array_equal(QA_AND_ASR.drawn(2, 7), first) and not np.array_equal(QA_AND_ASR.drawn(1, 6), first)


def test_the_sampler_shuffles_what_a_mixture_draws():
    sampler = TrainingSampler(135, 8, seed=1, mixture=QA_AND_ASR)
    assert len(sampler) == 104
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = [draw.index for draw in sampler]
        assert sorted(order[:100]) == sorted(QA_AND_ASR.drawn(1, epoch)) and order[100:] == order[:4]
        assert {index >= 95 for index in order[:95]} == {False, True}
    lengths = np.random.default_rng(0).permutation(135).tolist()
    grouped = TrainingSampler(135, 8, seed=1, mixture=QA_AND_ASR, lengths=lengths)
    order = [draw.index for draw in grouped][:100]
    assert sorted(order) == sorted(QA_AND_ASR.drawn(1, 0))
    updates = np.array([lengths[index] for index in order[:96]]).reshape(-1, 8)
    assert np.ptp(updates, axis=1).mean() < 60  # about 105 in any order


def test_a_mixture_is_told_in_samples():
    assert QA_AND_ASR.told(["qa.json", "asr.json"]) == (
        "an epoch draws 100 samples: 95 of 95 from qa.json (95.0%), 5 of 40 from asr.json (5.0%)"
    )


def test_paths_and_weights_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.json", "one:2", "c:d.json"):
        (tmp_path / name).touch()
    for alone in ("qa.json", "a b.json", "none at all.json", "one:2", "c:d.json", "none:x.json"):
        assert parse_mixture(alone) == {alone: 1.0}
    assert parse_mixture("qa.json:0.95  asr.json:0.05") == {"qa.json": 0.95, "asr.json": 0.05}
    assert parse_mixture("c:d.json:3 /x:1/qa.json:1e-1") == {"c:d.json": 3.0, "/x:1/qa.json": 0.1}
    assert parse_mixture("qa.json:2") == {"qa.json": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qa.json:0.95 asr.json", "'asr.json' names no weight; a mixture is PATH:WEIGHT for each manifest, such as"),
        ("qa.json:0.95 asr.json:", "'asr.json:' names no weight"),
        ("qa.json:0.95 :0.05", "':0.05' names no weight"),
        ("qa.json:1 asr.json:0", "the weight of asr.json is 0; expected a number above 0 "),
        ("qa.json:1 asr.json:-0.5", "the weight of asr.json is -0.5; expected"),
        ("qa.json:1 asr.json:nan", "the weight of asr.json is nan; expected"),
        ("qa.json:inf", "the weight of qa.json is inf; expected"),
        ("qa.json:1 qa.json:2", "qa.json is named twice; name it once"),
    ],
)
def test_mixtures_that_are_none_are_refused(text, message):
    with pytest.raises(ManifestError, match=message):
        parse_mixture(text)

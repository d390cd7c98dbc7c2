import numpy as np
import pytest

from src.data_sampler import Draw, EvaluationSampler, Masking, TrainingSampler


def draws(epoch: int = 0, num_samples: int = 100, update_size: int = 8, seed: int = 1, **options) -> list[Draw]:
    sampler = TrainingSampler(num_samples, update_size, seed, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_holds_every_sample_and_is_filled_up_to_whole_updates():
    order = [draw.index for draw in draws()]
    assert len(order) == len(TrainingSampler(100, 8, 1)) == 104
    assert sorted(order[:100]) == list(range(100)) and order[:100] != list(range(100))
    assert order[100:] == order[:4]
    few = [draw.index for draw in draws(num_samples=3)]
    assert len(few) == 8 and few[:3] == few[3:6] and set(few) == {0, 1, 2}


def test_draws_are_a_function_of_seed_and_epoch():
    np.random.seed(5)
    first = draws(epoch=2)
    np.random.seed(6)
    assert draws(epoch=2) == first
    for other in (draws(epoch=3), draws(epoch=2, seed=2), draws(epoch=1, seed=2)):
        assert [d.index for d in other] != [d.index for d in first]
        assert not {d.masking.seed for d in other} & {d.masking.seed for d in first}
    assert len({d.masking.seed for d in first}) == 104


@pytest.mark.parametrize("time_sampling", ["uniform", "stratified"])
def test_every_sample_has_a_uniform_t(time_sampling):
    epochs = [draws(epoch, 16, 8, time_sampling=time_sampling) for epoch in range(2000)]
    times = np.array([[draw.masking.time for draw in epoch] for epoch in epochs])  # by place
    np.testing.assert_allclose(times.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(times.var(axis=0), 1 / 12, atol=0.006)
    by_sample = {index: [] for index in range(16)}
    for epoch in epochs:
        for draw in epoch:
            by_sample[draw.index].append(draw.masking.time)
    for values in by_sample.values():
        assert np.mean(values) == pytest.approx(0.5, abs=0.03)


def test_stratified_times_lie_evenly_in_each_update():
    times = np.array([draw.masking.time for draw in draws(time_sampling="stratified")]).reshape(13, 8)
    ordered = np.sort(times, axis=1)
    np.testing.assert_allclose(np.diff(ordered, axis=1), 1 / 8)
    assert ((ordered[:, 0] >= 0) & (ordered[:, 0] < 1 / 8)).all() and len(set(ordered[:, 0])) == 13
    assert not np.array_equal(times, ordered)  # shuffled: a place says nothing about t
    # the sum over an update varies only by the offset: (1 / 12) of one sample's instead of eight
    means = [np.mean([d.masking.time for d in draws(e, 8, 8, time_sampling="stratified")]) for e in range(500)]
    assert np.var(means) == pytest.approx(1 / 12 / 8**2, rel=0.2)


def test_samples_of_similar_length_come_together():
    lengths = np.random.default_rng(0).permutation(400).tolist()

    def padding(order: list[int]) -> int:
        updates = np.array([lengths[index] for index in order]).reshape(-1, 8)
        return int((updates.max(axis=1, keepdims=True) - updates).sum())

    grouped = [draw.index for draw in draws(num_samples=400, lengths=lengths)]
    assert sorted(grouped) == list(range(400))
    assert padding(grouped) < 0.2 * padding([draw.index for draw in draws(num_samples=400)])
    assert grouped == [draw.index for draw in draws(num_samples=400, lengths=lengths)]
    assert grouped != [draw.index for draw in draws(1, num_samples=400, lengths=lengths)]


def test_evaluation_masks_alike_every_time_on_an_even_grid():
    sampler = EvaluationSampler(10)
    first = list(sampler)
    assert first == list(sampler) and len(sampler) == 10
    assert [draw.index for draw in first] == list(range(10))
    assert sorted(draw.masking.time for draw in first) == pytest.approx([0.05 + 0.1 * k for k in range(10)])
    assert [draw.masking.time for draw in first] != sorted(draw.masking.time for draw in first)


def test_an_unknown_way_of_sampling_is_named():
    with pytest.raises(ValueError, match="time_sampling is 'even'; expected one of uniform, stratified"):
        TrainingSampler(4, 2, 0, time_sampling="even")


def test_a_random_masking_is_in_range():
    maskings = [Masking.random() for _ in range(100)]
    assert all(0 <= m.time < 1 and 0 <= m.seed < 2**62 for m in maskings) and len({m.seed for m in maskings}) == 100

import numpy as np

from src.data_sampler import Draw, EvaluationSampler, TrainingSampler
from src.masked_diffusion import validation_maskings


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


def test_the_times_are_sampled_as_asked_for():
    for time_sampling, spread in (("uniform", False), ("stratified", True)):
        times = np.array([draw.masking.time for draw in draws(time_sampling=time_sampling)]).reshape(13, 8)
        assert np.allclose(np.diff(np.sort(times, axis=1), axis=1), 1 / 8) == spread


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


def test_an_evaluation_takes_every_sample_in_order_and_masks_alike_every_time():
    sampler = EvaluationSampler(10)
    first = list(sampler)
    assert first == list(sampler) and len(sampler) == 10
    assert [draw.index for draw in first] == list(range(10))
    assert [draw.masking for draw in first] == validation_maskings(10)

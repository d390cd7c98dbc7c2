import pytest
import torch
import torch.nn.functional as F

from src import vocabulary

D = 24


@pytest.mark.parametrize("num_tokens", [63, 64, 65, 640, 1000])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 15, 16, 40])
def test_a_projection_in_slices_is_the_projection(num_rows, num_tokens):
    torch.manual_seed(0)
    hidden_states, weight = torch.randn(num_rows, D), torch.randn(num_tokens, D)
    expected = F.linear(hidden_states.double(), weight.double()).float()
    torch.testing.assert_close(vocabulary.project(hidden_states, weight), expected, rtol=1e-5, atol=1e-5)


def test_a_projection_takes_any_number_of_dimensions_and_strides():
    hidden_states, weight = torch.randn(2, D, 5).mT, torch.randn(130, D)
    assert vocabulary.project(hidden_states, weight).shape == (2, 5, 130)
    torch.testing.assert_close(vocabulary.project(hidden_states, weight), F.linear(hidden_states, weight))


def test_few_rows_of_float32_on_a_cpu_come_in_slices_and_no_others(monkeypatch):
    sizes = []
    monkeypatch.setattr(torch, "bmm", lambda x, y, bmm=torch.bmm: (sizes.append(tuple(x.shape)), bmm(x, y))[1])
    weight = torch.randn(640, D)
    for num_rows in (1, 2, 15, 16):
        vocabulary.project(torch.randn(num_rows, D), weight)
    vocabulary.project(torch.randn(4, D).bfloat16(), weight.bfloat16())
    assert sizes == [(10, 2, D), (10, 15, D)]
    monkeypatch.setattr(vocabulary, "by_cache", lambda tensor: False)  # as on a GPU
    vocabulary.project(torch.randn(4, D), weight)
    assert len(sizes) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tokens", [1, 64, 128, 640, 1000])
def test_the_likeliest_is_the_first_of_equals(num_tokens, dtype):
    torch.manual_seed(0)
    logits = torch.randint(-3, 3, (300, num_tokens)).to(dtype)  # every row has equals, in its group and in others
    highest, token = vocabulary.likeliest(logits)
    assert torch.equal(highest, logits.max(dim=1).values)
    first = (logits == highest[:, None]).long().argmax(dim=1)
    assert torch.equal(token, first)


@pytest.mark.parametrize("place", [0, 63, 64, 127, 128, 639])
def test_the_likeliest_is_found_wherever_it_stands(place):
    logits = torch.zeros(2, 640)
    logits[1, place] = 1
    assert vocabulary.likeliest(logits)[1].tolist() == [0, place]
    logits[1, place] = torch.nan
    assert vocabulary.likeliest(logits)[0].isnan().tolist() == [False, True]


@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 9])
def test_the_sums_are_a_float64_softmaxs(num_rows):
    torch.manual_seed(0)
    logits = torch.randn(num_rows, 1000) * 5
    highest = logits.max(dim=1).values
    expected = (logits.double() - highest.double()[:, None]).exp().sum(dim=1)
    torch.testing.assert_close(vocabulary.sums_of_exponentials(logits, highest), expected, rtol=1e-14, atol=0)

import pytest
import torch

from perf import launches
from perf.launches import MODES, OperationCounter, operations_of_a_step, random_llm


def counted(call) -> list[str]:
    with OperationCounter() as counter:
        call()
    assert not counter.model
    return sorted(counter.sampler.elements())


@pytest.mark.parametrize("inference", [False, True])
def test_what_costs_no_launch_is_not_counted(inference):
    x = torch.ones(2, 4)
    with torch.inference_mode(inference):
        assert counted(lambda: x.T[:, :1].reshape(2, 2).unsqueeze(0).chunk(2, dim=1)) == []
        assert counted(lambda: torch.empty_like(x)) == []
        assert counted(lambda: torch.nn.functional.linear(x, x) + 1) == ["add", "mm"]
        assert counted(lambda: x.sum() > 3) == ["gt", "sum"]
        assert counted(lambda: x.to(torch.float64)) == ["_to_copy"]


def test_attention_and_norm_are_one_operation_as_on_gpus():
    x = torch.ones(1, 2, 3, 16)
    with torch.inference_mode():
        names = counted(lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x))
        assert names == ["scaled_dot_product_attention"]
        assert counted(lambda: torch.nn.functional.rms_norm(x, (16,))) == ["rms_norm"]


# Operations of a step besides the model's. One more in a batch is one more launch an answer; where answers draw random
# numbers, each has its own.
MOST = {
    "exact": 26,
    "prefix cache": 26,
    "dual cache": 26,
    "threshold": 29,
    "factor": 33,
    "temperature": 39,
    "random remasking": 23,
    "guidance": 29,
    "early stop": 26,
    "fast_dllm": 58,
}


@pytest.mark.parametrize("mode", MODES)
def test_the_sampler_asks_for_few_operations_a_step(mode):
    llm = random_llm(n_layers=2)
    one, many = (operations_of_a_step(llm, batch_size, MODES[mode]) for batch_size in (1, 8))
    assert one.sampler.total() <= MOST[mode], dict(one.sampler)
    if mode not in ("temperature", "random remasking"):
        assert many.sampler == one.sampler


def test_the_model_asks_for_as_many_as_it_has_layers():
    counts = [operations_of_a_step(random_llm(n_layers), 1, {}).model.total() for n_layers in (2, 3, 5)]
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
    assert counts[1] - counts[0] <= 27


def test_the_table(capsys):
    launches.main(["--n_layers", "1", "--names"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["model", "sampler,", "batch", "1", "sampler,", "batch", "8"]
    for mode in MODES:
        assert f"\n{mode} " in printed and f"\n{mode}: " in printed

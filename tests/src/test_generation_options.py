import pytest

from src.generation_options import PRESETS, GenerationOptions


def test_quotas_share_out_the_block_first_steps_first():
    assert GenerationOptions(steps=6, block_length=8, max_new_tokens=16).quotas() == [3, 3, 2]
    assert GenerationOptions(steps=4, block_length=4, max_new_tokens=4).quotas() == [1, 1, 1, 1]
    assert GenerationOptions(steps=6, block_length=4, max_new_tokens=4).quotas() == [1, 1, 1, 1]  # two steps too many


def test_parallel_decoding_fixes_at_least_one_token_a_step_whatever_the_steps():
    assert GenerationOptions(steps=1, block_length=4, max_new_tokens=12, threshold=0.9).quotas() == [1, 1, 1, 1]
    assert GenerationOptions(steps=3, block_length=4, max_new_tokens=12, factor=0.5).quotas() == [1, 1, 1, 1]


def test_when_everything_is_computed():
    def steps(**settings):
        options = GenerationOptions(**settings)
        return [options.computes_everything(step) for step in range(5)]

    assert steps() == [True] * 5
    assert steps(cache="prefix") == steps(cache="dual") == [True, False, False, False, False]
    assert steps(cache="dual", refresh_interval=2) == [True, False, True, False, True]
    assert steps(cache="prefix", refresh_interval=1) == [True] * 5


def test_presets_name_valid_options():
    assert list(PRESETS) == ["exact", "fast", "fastest", "fast_dllm"]
    assert GenerationOptions.of_preset("exact") == GenerationOptions()
    for preset in ("fast", "fastest", "fast_dllm"):
        options = GenerationOptions.of_preset(preset, max_new_tokens=32)
        assert options.parallel and options.stop_at_eos and options.max_new_tokens == 32


def test_our_own_rules_are_the_presets_unless_the_published_ones_are_asked_for():
    for preset in ("exact", "fast", "fastest"):
        options = GenerationOptions.of_preset(preset)
        assert not options.last_rank and not options.stop_in_block
    published = GenerationOptions.of_preset("fast_dllm")
    assert (published.factor, published.last_rank, published.stop_in_block) == (1.0, True, True)


def test_what_refines_a_setting_of_the_preset_goes_when_that_does():
    by_threshold = GenerationOptions.of_preset("fast_dllm", threshold=0.9)
    assert (by_threshold.factor, by_threshold.last_rank, by_threshold.stop_in_block) == (None, False, True)
    assert not GenerationOptions.of_preset("fast_dllm", stop_at_eos=False).stop_in_block
    assert GenerationOptions.of_preset("fast_dllm", factor=2.0).last_rank
    assert not GenerationOptions.of_preset("fast_dllm", last_rank=False).last_rank


def test_settings_win_over_a_preset():
    options = GenerationOptions.of_preset("fast", cache="dual", stop_at_eos=False, threshold=0.5)
    assert (options.cache, options.stop_at_eos, options.threshold) == ("dual", False, 0.5)
    assert PRESETS["fast"]["threshold"] != 0.5
    by_factor = GenerationOptions.of_preset("fast", factor=2.0)  # one rule replaces the other
    assert (by_factor.threshold, by_factor.factor) == (None, 2.0)
    plain = GenerationOptions.of_preset("fast", threshold=None)
    assert not plain.parallel and plain.stop_at_eos
    with pytest.raises(ValueError, match="preset is 'quick'; expected one of exact, fast, fastest"):
        GenerationOptions.of_preset("quick")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_length": 5}, "block_length 5 does not divide max_new_tokens 16; nearest that do: 4 and 8"),
        (
            {"max_new_tokens": 32, "steps": 7},
            r"steps 7 cannot be shared evenly over 2 blocks \(max_new_tokens 32 / block_length 16\); "
            "nearest that can: 6 and 8",
        ),
        ({"max_new_tokens": 64, "steps": 1}, "steps 1 cannot be .* nearest that can: 4$"),
        ({"max_new_tokens": 48, "steps": 10**15}, "nearest that can: 999999999999999 and 1000000000000002$"),
        ({"max_new_tokens": 10**12, "block_length": 3}, "nearest that do: 2 and 4$"),
        ({"max_new_tokens": 7, "block_length": 9}, "nearest that do: 7$"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"block_length": -2}, "block_length is -2"),
        ({"remasking": "lowest"}, "remasking is 'lowest'; expected one of low_confidence, random"),
        ({"temperature": -0.5}, "temperature is -0.5; it must not be negative"),
        ({"cfg_scale": -1.0}, "cfg_scale is -1.0"),
        ({"cfg_scale": 1e308}, "cfg_scale is 1e\\+308; it is at most 1000"),
        ({"cache": "double"}, "cache is 'double'; expected one of none, prefix, dual"),
        ({"cache": "dual", "refresh_interval": 0}, "refresh_interval is 0; it must be at least 1"),
        ({"refresh_interval": 2}, "refresh_interval .* needs cache='prefix' or 'dual'"),
        ({"threshold": 0.9, "factor": 1.0}, "threshold 0.9 and factor 1.0 exclude each other"),
        ({"threshold": 0.0}, "threshold is 0.0; it is a probability, above 0 and at most 1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"factor": 0.0}, "factor is 0.0; it must be above 0"),
        ({"last_rank": True}, "last_rank is part of the factor rule; it needs factor"),
        ({"last_rank": True, "threshold": 0.9}, "it needs factor"),
        ({"stop_in_block": True}, "stop_in_block says when to look for the end; it needs stop_at_eos"),
        ({"threshold": 0.9, "remasking": "random"}, "threshold .* needs remasking='low_confidence', not 'random'"),
        ({"factor": 0.9, "remasking": "random"}, "factor goes by confidence"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationOptions(**options)

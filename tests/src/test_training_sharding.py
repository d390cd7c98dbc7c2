import json

import pytest

from src.training_sharding import ShardingError, check_deepspeed_file
from tests.src.test_training_arguments import parsed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"ds\.json cannot be read \(No such file or directory\); expected a file such as config/dp_config\.json",
        ),
        ('{"zero_optimization": ', r"ds\.json is not JSON \(Expecting value: .*\); expected"),
        ("[]", r"ds\.json has zero_optimization\.stage None; expected one of 0, 1, 2, 3, as in config/dp_config\.json"),
        ("{}", "zero_optimization.stage None"),
        ('{"zero_optimization": {"stage": 4}}', "zero_optimization.stage 4; expected one of 0, 1, 2, 3"),
        ('{"zero_optimization": {"stage": 1}, "scheduler": {}}', "has a 'scheduler', which would silently override"),
        ('{"zero_optimization": {"stage": 1}, "optimizer": {}}', "has a 'optimizer', which would silently override"),
        (
            '{"zero_optimization": {"stage": 1}, "fp16": {"enabled": true}}',
            "enables fp16, in which training does not",
        ),
    ],
)
def test_a_deepspeed_file_that_cannot_be_used_is_told_with_the_flags(tmp_path, content, message):
    """Not by DeepSpeed, once the model is loaded."""
    path = tmp_path / "ds.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ShardingError, match=message):
        parsed(tmp_path, "--deepspeed", str(path))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_deepspeed_file_that_can_be_used(tmp_path, stage):
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    check_deepspeed_file(tmp_path / "ds.json")


def test_deepspeed_and_fsdp_exclude_each_other(tmp_path, monkeypatch):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 1}}')
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ShardingError, match=r"--deepspeed and FSDP .* leave one of them out"):
        parsed(tmp_path, "--deepspeed", str(tmp_path / "ds.json"))

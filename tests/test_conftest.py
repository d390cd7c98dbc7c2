import time

import pytest

from tests.conftest import in_time, slow_groups

TESTS = {
    "test_server.py": "import pytest\npytestmark = pytest.mark.slow\ndef test_a(): ...\ndef test_b(): ...\n",
    "test_runs.py": """import pytest
def test_quick(): ...
@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2])
def test_run(n): ...
@pytest.mark.slow
def test_other(): ...
""",
}
pytest_plugins = ["pytester"]


def test_what_is_not_done_in_time_is_named():
    with pytest.raises(pytest.fail.Exception, match=r"clip7\.wav: not done after 0\.05 s"):
        in_time(0.05, "clip7.wav", time.sleep, 0.3)
    assert in_time(20, "clip8.wav", max, 1, 2) == 2


def test_slow_tests_that_share_something_stay_together(pytester):
    for name, source in TESTS.items():
        pytester.makepyfile(**{name.removesuffix(".py"): source})
    items, _ = pytester.inline_genitems()
    assert [[item.name for item in group] for group in slow_groups(items)] == [
        ["test_run[1]", "test_run[2]"], ["test_other"], ["test_a", "test_b"],
    ]  # fmt: skip

import time

import pytest

from tests.conftest import in_time


def test_what_is_not_done_in_time_is_named():
    with pytest.raises(pytest.fail.Exception, match=r"clip7\.wav: not done after 0\.05 s"):
        in_time(0.05, "clip7.wav", time.sleep, 0.3)
    assert in_time(20, "clip8.wav", max, 1, 2) == 2

import subprocess
import sys

import pytest

from src.processes import Ranks, leave
from tests.test_train import ROOT

TOGETHER = """
import sys
from pathlib import Path
from src.processes import Ranks, leave
ranks = Ranks.join()
Path(sys.argv[2], str(ranks.rank)).write_text(f"{ranks.world} {ranks.total([ranks.rank + 1, 0.25])}")
leave(int(sys.argv[1]))
"""


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks.join()
    ranks.wait()
    assert ranks == Ranks(0, 1) and ranks.total([1, 0.25]) == [1, 0.25]
    with pytest.raises(SystemExit, match="3"):
        leave(3)


@pytest.mark.parametrize("status", [0, 3])
def test_two_add_up_and_leave_with_their_status(tmp_path, status):
    script = tmp_path / "together.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{TOGETHER}")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [str(script), str(status), str(tmp_path)]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=120)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2 [3.0, 0.5]"] * 2
    assert done.returncode == (1 if status else 0)  # the launcher has a status of its own
    assert ("exitcode  : 3" in done.stderr) == bool(status)

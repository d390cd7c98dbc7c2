"""The processes that `torch.distributed.run` starts: joining their group, barriers and sums, and ending together."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

PR_SET_PDEATHSIG = 1  # of Linux's prctl
MAX_WAIT = timedelta(days=30)  # of a rank that is done, for the others


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls) -> "Ranks":
        """Join the process group of those that `torch.distributed.run` started; without it, this process is alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=MAX_WAIT)  # only for waiting, so no GPU backend is needed
        return cls(dist.get_rank(), dist.get_world_size())

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, each of which must call this."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        if self.world > 1:
            dist.all_reduce(sums)
        return sums.tolist()


def own_device() -> torch.device:
    """A GPU, of several this process's own; else Apple's (`mps`); else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def die_with_launcher() -> None:
    """Under torch.distributed.run, end when it ends.

    Killed, it cannot end its processes, which would go on training beside those of the next start.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = Path(f"/proc/{os.getppid()}/cmdline")
        if not parent.exists() or b"python" not in parent.read_bytes():  # the launcher has ended already
            os._exit(1)


def leave(status: int) -> NoReturn:
    """End this process with an exit status; one among several waits for the others first and skips all teardown.

    gloo's threads are now and then still running when their process group is destroyed, by hand or at interpreter exit,
    which aborts a process whose work is done ("terminate called without an active exception"), and with it the run.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        sys.exit(status)
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

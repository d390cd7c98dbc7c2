"""How the processes that `torch.distributed.run` starts come to an end."""

import os
import sys
from typing import NoReturn

import torch.distributed as dist


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

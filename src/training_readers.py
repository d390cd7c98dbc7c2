"""The processes that read audio for training: they ignore what stops it, and end with it."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.data import DataLoader

from src.errors import UserError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # have a checkpoint written, and training end
MAX_READER_SECONDS = 5.0  # that a killed process that reads audio takes to end


class ReaderError(UserError):
    """A process that reads audio has ended; the message says why it may have, and what to do."""


@contextmanager
def readers_end_with_training() -> Iterator[None]:
    """When training ends or fails, end the processes that read audio, with --dataloader_persistent_workers too.

    Raises ReaderError where training failed because one of them had ended.
    """
    try:
        yield
    except RuntimeError as error:
        if is_of_reader(error):
            raise ReaderError(
                f"a process that reads audio was killed, perhaps because the machine ran out of memory ({error}). The "
                "same command goes on from the last checkpoint; if it happens again, lower WORKERS "
                "(--dataloader_num_workers)"
            ) from None
        raise
    finally:
        kill_readers()


def kill_readers() -> None:
    """They hold nothing. Python would send them SIGTERM, which they ignore, and wait for them."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises an error for each that is killed
    for reader in multiprocessing.active_children():
        reader.kill()
        reader.join(MAX_READER_SECONDS)
    signal.signal(signal.SIGCHLD, handler)


def is_of_reader(error: BaseException) -> bool:
    """Whether an error says that a process that reads audio has ended. Torch raises it wherever training then is."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def deaf_to_stop_signals(loader: DataLoader) -> DataLoader:
    """Its processes: a cluster sends signals to them as well, and the step under way still needs them."""
    loader.base_dataloader.worker_init_fn = ignore_stop_signals
    return loader


def ignore_stop_signals(worker: int) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

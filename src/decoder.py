"""What a decoder is: samples one after another, and how much is missing; and what is wrong with audio."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from src.errors import UserError

EXPECTED = "expected WAV, MP3, FLAC, Ogg, M4A, WebM or the like: convert it"
BLOCK_FRAMES = 2**20  # read at a time when a whole file is inspected


class AudioError(UserError):
    """Audio that cannot be used; the message names the file and what is wrong with it."""


class UnknownFormatError(AudioError):
    """Not a format that is read here, or nothing of it is left."""


class MissingPackageError(UserError):
    """A package of requirements.txt that is not installed."""


class Decoder(ABC):
    """An open file.

    Attributes:
        rate: Hz.
        channels: their number.
        damaged: frames that are known to be lost before the current position.
        cut_off: at the end, frames that the header promises beyond it.
        ends_within_frame: at the end, whether a packet or frame of the codec goes beyond it, and nothing promises more.
        is_float: whether the file stores floating-point samples.
        full_scale: what samples are to be divided by, 1 but for floating-point ones at the scale of integers.
        warnings: what must be done to make the samples usable.
    """

    rate: int
    channels: int
    damaged = cut_off = 0
    ends_within_frame = False
    is_float = False
    full_scale = 1.0
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def read(self, frames: int) -> np.ndarray:
        """float32 [n, channels], not yet divided by `full_scale`; n < frames at the end alone."""

    def blocks(self) -> Iterator[np.ndarray]:
        """What is left, in blocks as `read` gives them."""
        while len(block := self.read(BLOCK_FRAMES)):
            yield block

    @abstractmethod
    def count_left(self, max_frames: int) -> int:
        """Frames left, over `max_frames` if there are more; not decoded where that can be. The last call of all."""

    @abstractmethod
    def close(self) -> None: ...

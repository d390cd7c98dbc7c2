"""How to decode: the options, the rules they must keep, and the presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from types import MappingProxyType
from typing import Any

REMASKING_RULES = ("low_confidence", "random")
CACHE_MODES = ("none", "prefix", "dual")
MAX_CFG_SCALE = 1000  # far above what is of use, and far below what overflows
# A transcript's, which for 30 s of speech takes about 100 tokens.
TRANSCRIPT: Mapping[str, int] = MappingProxyType({"steps": 128, "block_length": 16, "max_new_tokens": 128})

# Which to choose, and what each costs and gains, stands in docs/performance.md.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "exact": {},  # the published algorithm, token for token
        "fast": {"threshold": 0.9, "stop_at_eos": True},  # sure tokens together; every pass still sees everything
        "fastest": {"cache": "dual", "threshold": 0.7, "stop_at_eos": True},  # less sure ones, on stale surroundings
        # DIFFA-2's published scripts, token for token and pass for pass (their --accelerate fast_dllm)
        "fast_dllm": {"factor": 1.0, "last_rank": True, "stop_at_eos": True, "stop_in_block": True},
    }
)


@dataclass(frozen=True)
class GenerationOptions:
    """How to decode. Checked when made: raises ValueError with what was found and what would do.

    Attributes:
        steps: forward passes in all, shared out evenly over the blocks. Parallel decoding does not use it.
        block_length: positions unmasked together; blocks go from left to right.
        max_new_tokens: answer length in tokens, end tokens included.
        temperature: 0 takes the likeliest token; above 0, Gumbel noise in float64 makes it a sample.
        cfg_scale: classifier-free guidance; 0 turns it off, above 0 costs a second branch.
        remasking: which candidates are kept: `low_confidence` keeps the most probable, `random` any.
        cache: `none` computes everything at every step, which gives the published tokens. The others (Fast-dLLM,
            arXiv 2505.22618) do so at a block's first step, and then keep the keys and values of what stands before
            the block (`prefix`) or on both sides of it (`dual`): faster, and nearly the same.
        refresh_interval: with a cache, compute everything again after so many steps of a block; None: never.
        threshold: parallel decoding: fix every token with at least this confidence, and one at least.
        factor: parallel decoding: fix the n most confident tokens, n the largest with (n + 1)(1 - c_n) <= factor, c_n
            the least confidence among them, and one at least. Excludes `threshold`. With either, a block takes the
            passes it needs, `block_length` at most.
        last_rank: with `factor`, fix the least confident candidate as well when all others are fixed, however little
            confidence it has, so that two remaining masks always go together; and let the mask token hold the ranks
            of the positions it wins. Both are what DIFFA-2's published decoder does.
        stop_at_eos: after the first block that holds an end token, all are end tokens, and none is computed.
        stop_in_block: with `stop_at_eos`, look for the end after every pass, as DIFFA-2's published decoder does: once
            no mask stands before a block's first end token, the rest of the block becomes end tokens, fixed or not,
            and later blocks stay masks.
        seed: for temperature and random remasking. Every sample of a batch draws from its own generator with this
            seed, so that an answer does not depend on the batch it is in. None draws a new seed for each call.
    """

    steps: int = 16
    block_length: int = 16
    max_new_tokens: int = 16
    temperature: float = 0.0
    cfg_scale: float = 0.0
    remasking: str = "low_confidence"
    cache: str = "none"
    refresh_interval: int | None = None
    threshold: float | None = None
    factor: float | None = None
    last_rank: bool = False
    stop_at_eos: bool = False
    stop_in_block: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "block_length", "max_new_tokens", "refresh_interval"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("temperature", "cfg_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative, and it must be finite")
        if self.cfg_scale > MAX_CFG_SCALE:
            raise ValueError(f"cfg_scale is {self.cfg_scale}; it is at most {MAX_CFG_SCALE}")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; expected a whole number of 64 bits")
        for name, allowed in (("remasking", REMASKING_RULES), ("cache", CACHE_MODES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        if self.refresh_interval is not None and self.cache == "none":
            raise ValueError("refresh_interval says how long a cache is kept; it needs cache='prefix' or 'dual'")
        if self.stop_in_block and not self.stop_at_eos:
            raise ValueError("stop_in_block says when to look for the end; it needs stop_at_eos")
        self._check_parallel()
        self._check_shares()

    def _check_parallel(self) -> None:
        if self.threshold is not None and self.factor is not None:
            raise ValueError(f"threshold {self.threshold} and factor {self.factor} exclude each other; give one")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it is a probability, above 0 and at most 1")
        if self.factor is not None and not self.factor > 0:
            raise ValueError(f"factor is {self.factor}; it must be above 0")
        if self.last_rank and self.factor is None:
            raise ValueError("last_rank is part of the factor rule; it needs factor")
        if self.parallel and self.remasking != "low_confidence":
            rule = "threshold" if self.factor is None else "factor"
            raise ValueError(f"{rule} goes by confidence; it needs remasking='low_confidence', not {self.remasking!r}")

    def _check_shares(self) -> None:
        if self.max_new_tokens % self.block_length:
            raise ValueError(
                f"block_length {self.block_length} does not divide max_new_tokens {self.max_new_tokens}; "
                f"nearest that do: {nearest(self.block_length, divisors(self.max_new_tokens))}"
            )
        if self.steps % self.num_blocks and not self.parallel:
            below = self.steps // self.num_blocks * self.num_blocks
            raise ValueError(
                f"steps {self.steps} cannot be shared evenly over {self.num_blocks} blocks "
                f"(max_new_tokens {self.max_new_tokens} / block_length {self.block_length}); "
                f"nearest that can: {nearest(self.steps, [below, below + self.num_blocks])}"
            )

    @classmethod
    def of_preset(cls, preset: str, **settings: Any) -> "GenerationOptions":
        """The options of a preset. `settings` win over it; a rule of parallel decoding replaces the preset's rule.

        What only refines a setting of the preset goes when that does.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
        chosen = dict(PRESETS[preset])
        if "threshold" in settings or "factor" in settings:
            chosen.pop("threshold", None)
            chosen.pop("factor", None)
        if settings.get("factor", chosen.get("factor")) is None:
            chosen.pop("last_rank", None)
        if not settings.get("stop_at_eos", chosen.get("stop_at_eos")):
            chosen.pop("stop_in_block", None)
        return cls(**chosen | settings)

    @property
    def num_blocks(self) -> int:
        return self.max_new_tokens // self.block_length

    @property
    def parallel(self) -> bool:
        """Whether confidence decides how many tokens a step fixes."""
        return self.threshold is not None or self.factor is not None

    @property
    def draws(self) -> bool:
        """Whether random numbers decide."""
        return self.temperature > 0 or self.remasking == "random"

    def quotas(self) -> list[int]:
        """Tokens to fix at each step of a block, in parallel decoding at least.

        The first `block_length % steps` steps fix one more; steps that would fix none are left out.
        """
        if self.parallel:
            return [1] * self.block_length
        steps = self.steps // self.num_blocks
        share, extra = divmod(self.block_length, steps)
        return [share + (step < extra) for step in range(min(steps, self.block_length))]

    def computes_everything(self, step: int) -> bool:
        """Whether step `step` of a block (the first is 0) looks at the whole sequence anew."""
        if self.cache == "none" or step == 0:
            return True
        return self.refresh_interval is not None and step % self.refresh_interval == 0


def divisors(number: int) -> list[int]:
    """In ascending order; found in pairs, so that a large number takes the steps of its square root."""
    small = [n for n in range(1, isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def nearest(value: int, allowed: list[int]) -> str:
    """The allowed numbers closest to `value`, which are at least 1: one below, one above, as far as there are such."""
    below = [n for n in allowed if 0 < n < value][-1:]
    above = [n for n in allowed if n > value][:1]
    return " and ".join(str(n) for n in below + above)

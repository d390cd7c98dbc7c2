"""Forward passes of one shape as CUDA graphs: a thousand kernels launched at once, instead of one after the other.

At LLaDA-8B's size a GPU computes a pass over few positions faster than Python launches its kernels (docs/gpu.md). A
graph replays the same kernels on the same memory, so what a pass reads must keep its place.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch

MIN_PASSES = 8  # of one shape: recording one takes about as long as launching two
MAX_POSITIONS = 1024  # in a pass, all sequences together: more keep a GPU busy anyway, and their graph holds memory


@dataclass
class PassGraphs:
    """Runs passes that repeat: the first time plainly, the second recorded, from then on replayed."""

    runs: dict[Hashable, int] = field(default_factory=dict)  # by pass
    recorded: dict[Hashable, tuple[Callable[[], None], torch.Tensor]] = field(default_factory=dict)  # replay, output

    def forget(self) -> None:
        """Let go of all graphs and their memory: other passes follow."""
        self.runs.clear()
        self.recorded.clear()

    def run(self, key: Hashable, num_positions: int, call: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What `call` returns; the next run of this key may overwrite it.

        Args:
            key: names the pass; its tensors keep their place and their shape until `forget`.
            num_positions: that it computes, of all its sequences together.
            call: the pass.
        """
        if num_positions > MAX_POSITIONS:
            return call()
        self.runs[key] = self.runs.get(key, 0) + 1
        if self.runs[key] == 1:  # libraries set themselves up, which cannot be recorded
            return call()
        if key not in self.recorded:
            self.recorded[key] = record(call)
        replay, output = self.recorded[key]
        replay()
        return output


def record(call: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """A call's kernels, to be launched together, and the tensor that they write to."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()
    return graph.replay, output

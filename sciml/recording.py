"""Functions that a GPU repeats by itself.

A step of a small model is some thousand operations of a few microseconds each, which a processor cannot issue as fast
as a GPU runs them. Recorded once as a CUDA graph, they are one launch.
"""

import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

# Calls before the recording: kernels compile, libraries take their memory, optimizers their state.
_WARM_UP = 3


class Recording:
    """A function without arguments and results, run on a stream of its own: first as it is, then as a CUDA graph.

    Args:
        function: operations on arrays that stay where they are, none of which waits for the device.
        device: where; on a CPU the function is only ever called.
        required: whether it is an error if the function cannot be recorded; else there is a warning.
    """

    def __init__(self, function: Callable[[], None], device: torch.device, *, required: bool = False) -> None:
        self.function, self.device, self.required, self.possible = function, device, required, True
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0

    def forget(self) -> None:
        """Record anew, because arrays have moved or changed shape."""
        self.graph, self.calls = None, 0

    def run(self, times: int) -> None:
        """Call it so often."""
        if self.stream is None:
            for _ in range(times):
                self.function()
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for _ in range(times):
                if self.graph is None and self.calls == _WARM_UP and self.possible:
                    self.graph = self._recorded()
                if self.graph is None:
                    self.function()
                    self.calls += 1
                else:
                    self.graph.replay()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        try:
            # What other threads do on the device meanwhile is none of its business.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.function()
        except RuntimeError as error:  # of which torch has no narrower class
            self.possible = False
            reason = str(error).splitlines()[0]
            if self.required:
                raise ValueError(f"these steps cannot be recorded as a CUDA graph ({reason}); try without") from error
            logger.warning("steps cannot be recorded as a CUDA graph and are issued one by one, slowly: %s", reason)
            return None
        return graph

"""Launching a kernel so that torch.compile and export can see through it."""

from typing import Any

import triton
from torch.library import wrap_triton


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run `kernel[grid](*arguments, **options)`, traceable unless Triton's interpreter runs it."""
    wrapped = wrap_triton(kernel) if isinstance(kernel, triton.runtime.JITFunction) else kernel
    wrapped[grid](*arguments, **options)

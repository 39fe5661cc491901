"""Constants of a module that survive changes of its dtype exactly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ConstantsModule(nn.Module):
    """A module whose constants are kept in float64 and cast anew whenever its dtype changes.

    A plain buffer that went to float32 and back has lost half its digits: Clebsch-Gordan coefficients or quadrature
    weights rounded to 1e-8 make a float64 model equivariant to 1e-8 only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, tuple[Tensor, bool]] = {}

    def register_constant(self, name: str, value: Tensor, *, keep_float64: bool = False) -> None:
        """Make `value` (float64) available as attribute `name` in the module's dtype, or always in float64."""
        self._exact[name] = (value.double(), keep_float64)
        dtype = torch.float64 if keep_float64 else torch.get_default_dtype()
        self.register_buffer(name, value.to(dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> "ConstantsModule":
        super()._apply(fn, *args, **kwargs)
        for name, (value, keep_float64) in self._exact.items():
            cast = self._buffers[name]
            assert cast is not None
            self._buffers[name] = value.to(cast.device, torch.float64 if keep_float64 else cast.dtype)
        return self


def at_least_float32(module: ConstantsModule, name: str) -> Tensor:
    """A constant in the module's dtype, or in float32 if that has fewer digits."""
    cast = getattr(module, name)
    return (
        cast if cast.dtype in (torch.float32, torch.float64) else module._exact[name][0].to(cast.device, torch.float32)
    )

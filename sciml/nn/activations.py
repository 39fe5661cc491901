"""RMS norm and GELU, as torch has them, with second derivatives in kernels where there are some.

Training on forces differentiates every layer twice. torch has fast first derivatives of these two, and decomposes the
second ones into dozens of operations.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def _by_kernels(x: Tensor) -> bool:
    """Whether kernels run on x: on a CUDA device, where gradients are asked for and nothing traces."""
    if x.device.type != "cuda" or x.dtype not in (torch.float32, torch.float64) or torch.compiler.is_compiling():
        return False
    from sciml.kernels.launch import traced

    return x.requires_grad and torch.is_grad_enabled() and not torch.is_autocast_enabled("cuda") and not traced()


def gelu(x: Tensor) -> Tensor:
    """X Φ(x)."""
    if _by_kernels(x):
        from sciml.kernels import gelu as kernels

        return kernels.gelu(x)
    return functional.gelu(x)


class GELU(nn.Module):
    """x Φ(x), arXiv:1606.08415."""

    def forward(self, x: Tensor) -> Tensor:
        """Of each number."""
        return gelu(x)


class RMSNorm(nn.RMSNorm):
    """g ⊙ x (mean x² + ε)^(−1/2) along the last axis, arXiv:1910.07467; weights and arguments of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        """Of each row, (..., channels)."""
        if _by_kernels(x) and self.weight is not None and len(self.normalized_shape) == 1:
            from sciml.kernels.rms_norm import rms_norm

            return rms_norm(x, self.weight, torch.finfo(x.dtype).eps if self.eps is None else self.eps)
        return super().forward(x)

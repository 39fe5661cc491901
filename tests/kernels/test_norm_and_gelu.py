import pytest
import torch
from torch.nn.functional import gelu as torch_gelu
from torch.nn.functional import rms_norm as torch_rms_norm

from sciml.kernels.gelu import gelu
from sciml.kernels.rms_norm import rms_norm
from sciml.nn.activations import GELU, RMSNorm
from tests.kernels.channelwise_cases import DEVICE, GPU_ONLY, relative


def derivatives(function, *inputs):
    """Value, gradients of its sine's sum, and gradients of the sine of these."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
    return [y, *first, *torch.autograd.grad(sum(g.sin().sum() for g in first), leaves)]


@pytest.mark.parametrize("shape", [(1, 4), (5, 3), (3, 7, 16), (130, 48), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rms_norm_and_its_derivatives_are_those_of_torch(shape, dtype):
    x = torch.randn(shape, dtype=dtype, device=DEVICE)
    g = torch.randn(shape[-1:], dtype=dtype, device=DEVICE)
    wanted = derivatives(lambda x, g: torch_rms_norm(x, g.shape, g, 1e-6), x.double(), g.double())
    for got, exact in zip(derivatives(lambda x, g: rms_norm(x, g, 1e-6), x, g), wanted, strict=True):
        assert got.dtype == dtype
        assert relative(got, exact) < (1e-12 if dtype == torch.float64 else 5e-6)


@pytest.mark.parametrize("shape", [(1,), (7, 5), (1025,), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gelu_and_its_derivatives_are_those_of_torch(shape, dtype):
    x = 3 * torch.randn(shape, dtype=dtype, device=DEVICE)
    for got, exact in zip(derivatives(gelu, x), derivatives(torch_gelu, x.double()), strict=True):
        assert got.dtype == dtype
        assert relative(got, exact) < (1e-12 if dtype == torch.float64 else 5e-6)


def test_arrays_that_are_not_contiguous():
    x, g = torch.randn(6, 4, dtype=torch.float64, device=DEVICE).T, torch.rand(12, device=DEVICE).double()[::2]
    wanted = derivatives(lambda x, g: torch_rms_norm(x, g.shape, g, 1e-6), x, g)
    for got, exact in zip(derivatives(lambda x, g: rms_norm(x, g, 1e-6), x, g), wanted, strict=True):
        assert relative(got, exact) < 1e-12


def test_third_derivatives_are_refused():
    x = torch.randn(3, 4, dtype=torch.float64, device=DEVICE, requires_grad=True)
    for function in (gelu, lambda x: rms_norm(x, torch.ones_like(x[0]), 1e-6)):
        (first,) = torch.autograd.grad(function(x).sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            second.sum().backward()


def test_modules_have_the_weights_of_torch():
    assert RMSNorm(5).state_dict().keys() == torch.nn.RMSNorm(5).state_dict().keys()
    x = torch.randn(3, 5)
    assert torch.equal(RMSNorm(5)(x), torch.nn.RMSNorm(5)(x))
    assert torch.equal(GELU()(x), torch.nn.GELU()(x))


@GPU_ONLY
@pytest.mark.cuda
def test_modules_run_in_kernels_on_a_gpu():
    x = torch.randn(40, 64, device="cuda", requires_grad=True)
    assert "_NormBackward" in type(RMSNorm(64).cuda()(x).grad_fn).__name__
    assert "_GeluBackward" in type(GELU()(x).grad_fn).__name__
    assert "_Norm" not in type(RMSNorm(64).cuda()(x.detach()).grad_fn).__name__

"""What the tests of channelwise kernels share."""

import pytest
import torch

from sciml.tensor_products import TensorProductProblem, tensor_product

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU_ONLY = pytest.mark.skipif(DEVICE.type == "cuda", reason="about machines without a GPU")
GPU_ONLY = pytest.mark.skipif(DEVICE.type == "cpu", reason="compiles kernels")

PROBLEM = TensorProductProblem("3x0e+3x1o", "0e+1o", "0e+1o+1e")


def products(problem=PROBLEM, layout="ir_mul", dtype=torch.float64):
    pair = (tensor_product(problem, implementation=name, layout=layout) for name in ("torch", "triton"))
    return tuple(product.to(DEVICE, dtype) for product in pair)


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64).to(DEVICE, dtype)


def edges(receivers, num_nodes):
    receivers = torch.tensor(receivers, dtype=torch.long)
    return torch.randint(num_nodes, receivers.shape).to(DEVICE), receivers.to(DEVICE)


def relative(got, wanted):
    return float((got.detach().double() - wanted.detach()).norm() / wanted.detach().norm().clamp_min(1e-300))

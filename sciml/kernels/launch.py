"""Launching kernels, and the operators of torch that do, so that torch.compile and export can see through them."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
from torch.autograd import Function
from torch.library import triton_op, wrap_triton

from sciml.kernels.available import interpreted


def traced() -> bool:
    """Whether torch records what runs instead of only running it: torch.compile, FakeTensorMode, make_fx, export."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def reads_directly(dtypes: set[torch.dtype]) -> bool:
    """Whether `sciml.kernels.registers` may read and write such arrays in PTX, which tracing cannot look through."""
    whole = dtypes in ({torch.float32}, {torch.float64})
    return whole and torch.version.hip is None and not interpreted() and not traced()


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run `kernel[grid](*arguments, **options)` on the device of the tensors, traceable unless it is interpreted."""
    if not isinstance(kernel, triton.runtime.JITFunction):
        kernel[grid](*arguments, **options)
    elif traced():
        wrap_triton(kernel)[grid](*arguments, **options)
    else:
        # Triton launches on the current device, whatever the tensors are on.
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        with torch.cuda.device(device) if device.index != torch.cuda.current_device() else nullcontext():
            kernel[grid](*arguments, **options)


def sum_type(dtype: torch.dtype) -> Any:
    """Triton's name of the type in which numbers of a dtype are added up."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def operator(
    name: str, *, setup: Callable[..., None], backward: Callable[..., tuple]
) -> Callable[[Callable], Callable]:
    """Make a function of launches differentiable: an operator of torch where calls are traced, else without one.

    To dispatch an operator that is written in Python takes 40 microseconds or more, longer than to launch its kernels.
    Transforms of torch.func, but for those of forward mode, and batched gradients work as well, one call per element.

    Args:
        name: of the operator, "sciml::...".
        setup: saves for the backward pass, as `torch.library.register_autograd` wants it.
        backward: gradients, likewise.
    """

    def decorate(function: Callable) -> Callable:
        of_torch = triton_op(name, mutates_args=())(function)
        of_torch.register_autograd(backward, setup_context=setup)

        class Direct(Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = function(*inputs)
                setup(ctx, inputs, output)
                ctx.of_list = isinstance(output, list)
                return tuple(output) if ctx.of_list else output

            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> Any:
                found = backward(ctx, list(gradients)) if ctx.of_list else backward(ctx, *gradients)
                return tuple(None if isinstance(gradient, list) else gradient for gradient in found)

        class Transformed(Function):  # torch.func wants the setup apart, and binds arguments slowly then
            @staticmethod
            def forward(*inputs: Any) -> Any:
                return function(*inputs)

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
                setup(ctx, inputs, output)

            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> Any:
                return backward(ctx, *gradients)

            @staticmethod
            def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple:
                found = [
                    call(*(x if dim is None else x.select(dim, n) for x, dim in zip(inputs, in_dims, strict=True)))
                    for n in range(info.batch_size)
                ]
                if isinstance(found[0], tuple):
                    return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0,) * len(found[0])
                return torch.stack(found), 0

        def call(*inputs: Any) -> Any:
            if traced() or any(isinstance(x, Tensor) and is_legacy_batchedtensor(x) for x in inputs):
                return of_torch(*inputs)
            if peek_interpreter_stack() is None:
                return Direct.apply(*inputs)
            if any(isinstance(x, list) and any(isinstance(item, Tensor) for item in x) for x in inputs):
                raise NotImplementedError(f"{name} takes no transforms of torch.func; use the implementation 'torch'")
            return Transformed.apply(*inputs)

        call.__doc__, call.__name__ = function.__doc__, function.__name__
        return call

    return decorate

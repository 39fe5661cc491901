"""Launching kernels, and the operators of torch that do, so that torch.compile and export can see through them."""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd import Function
from torch.library import triton_op, wrap_triton


def traced() -> bool:
    """Whether torch records what runs, or transforms it, instead of only running it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0  # such as FakeTensorMode and make_fx
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run `kernel[grid](*arguments, **options)`, traceable unless Triton's interpreter runs it."""
    wrapped = wrap_triton(kernel) if traced() and isinstance(kernel, triton.runtime.JITFunction) else kernel
    wrapped[grid](*arguments, **options)


def sum_type(dtype: torch.dtype) -> Any:
    """Triton's name of the type in which numbers of a dtype are added up."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def operator(
    name: str, *, setup: Callable[..., None], backward: Callable[..., tuple]
) -> Callable[[Callable], Callable]:
    """Make a function of launches differentiable: an operator of torch where calls are traced, else without one.

    To dispatch an operator that is written in Python takes 40 microseconds or more, longer than to launch its kernels.

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

        def call(*inputs: Any) -> Any:
            return of_torch(*inputs) if traced() else Direct.apply(*inputs)

        call.__doc__, call.__name__ = function.__doc__, function.__name__
        return call

    return decorate

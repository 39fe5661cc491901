"""Kernels compile for a GPU, which takes no GPU; the interpreter forgives much that the compiler does not."""

import os
import subprocess
import sys

SCRIPT = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sciml.kernels.channelwise import plan_of
from sciml.kernels.channelwise_form import Pass, Tuning
from sciml.kernels.segment_sum import segment_sum_kernel

INDICES = ("receiver_starts", "senders", "receivers", "order", "starts")


def build(kernel, number, warps, **constants):
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {
        name: "constexpr"
        if name in constants
        else "*i64"
        if name in INDICES
        else f"*{number}"
        if name.endswith("_ptr") or name in ("messages", "z")
        else "i32"
        for name in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constexprs=constants)
    compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


for number, total in (("fp32", tl.float32), ("fp64", tl.float64), ("bf16", tl.float32)):
    radial = [Pass(w, t, "radial", 2) for w, t in (("g", ""), ("xyb", ""), ("m", "xyb"), ("gxyb", "xyb"))]
    for what in (Pass("g"), Pass("xyw"), Pass("gxyw", "xyw"), *radial):
        for tuning in (None, Tuning(32, 1, direct=True)):
            plan = plan_of("5x0e+5x1o | 0e+1o | 0e+1o", what, tuning)
            constants = {"SUM": total, "BLOCK": plan.tuning.block, "DIRECT": number != "bf16"}
            for add in (False, True) if "g" in what.wants else (False,):
                build(plan.kernel, number, plan.tuning.warps, ADD=add, **constants)
    for add in (False, True):
        build(segment_sum_kernel, number, 2, SUM=total, ROW=20, BLOCK=256, AT_ONCE=4, ADD=add)
print("all compiled")
"""


def test_kernels_compile_without_a_gpu(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "triton"), "SCIML_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "all compiled\n", done.stderr[-2000:]

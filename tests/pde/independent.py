"""Solutions of other packages, which the tests of solvers compare with: writes independent.json beside this file.

    python -m pip install exponax==0.2.0 pyro-hydro==4.5.1
    python tests/pde/independent.py

exponax (M. Koehler et al.): pseudo-spectral, exponential time differencing; pyro (M. Zingale et al.): finite volumes,
piecewise linear with corner transport upwind. Neither shares a line with this package.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np


def decaying_vorticity():
    """Vorticity of three waves after one unit of time: 64 x 64 points, viscosity 0.1; every fourth point."""
    import exponax
    import jax

    jax.config.update("jax_enable_x64", True)
    x = 2 * math.pi * np.arange(64) / 64
    x, y = np.meshgrid(x, x, indexing="ij")
    vorticity = np.sin(x) * np.cos(2 * y) + 2 * np.cos(3 * x + y) + np.sin(2 * y - x)
    step = exponax.stepper.NavierStokesVorticity(2, 2 * math.pi, 64, 0.005, diffusivity=0.1, order=4)
    u = jax.numpy.asarray(vorticity[None])
    for _ in range(200):
        u = step(u)
    return np.asarray(u)[0, ::4, ::4]


def riemann_problem(solver, problem, variable):
    """Profile along x of a shock tube at t = 0.2, 128 cells on [0, 1]."""
    from pyro import Pyro

    quiet = {"io.do_io": 0, "vis.dovis": 0, "driver.verbose": 0, "driver.max_steps": 1000}
    run = Pyro(solver)
    run.initialize_problem(
        problem.split(".")[0],
        inputs_file=f"inputs.{problem}",
        inputs_dict={"mesh.nx": 128, "mesh.ny": 8, "driver.tmax": 0.2, **quiet},
    )
    run.run_sim()
    return run.get_var(variable).v()[:, 4]


if __name__ == "__main__":
    found = {
        "versions": {name: version(name) for name in ("exponax", "pyro-hydro")},
        "vorticity": decaying_vorticity().round(12).tolist(),
        "sod_density": riemann_problem("compressible", "sod.x", "density").round(8).tolist(),
        "dam_height": riemann_problem("swe", "dam.x", "height").round(8).tolist(),
    }
    Path(__file__).with_name("independent.json").write_text(json.dumps(found) + "\n", encoding="utf-8")

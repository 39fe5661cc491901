"""ASE calculators of other packages, to be timed beside ours where they are installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator


def mace(device: str) -> Calculator:
    """MACE with random weights: r_max 6 Å, two layers, max_ell 3, correlation 3, 128x0e; for H, C, O and Si."""
    from mace import modules  # isort: skip - before e3nn, of which it makes old versions loadable
    from mace.calculators import MACECalculator  # isort: skip
    import torch
    from e3nn import o3

    options: dict[str, Any] = {
        "r_max": 6.0,
        "num_bessel": 8,
        "num_polynomial_cutoff": 5,
        "max_ell": 3,
        "interaction_cls": modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        "interaction_cls_first": modules.interaction_classes["RealAgnosticInteractionBlock"],
        "num_interactions": 2,
        "num_elements": 4,
        "hidden_irreps": o3.Irreps("128x0e"),
        "MLP_irreps": o3.Irreps("16x0e"),
        "atomic_energies": np.zeros(4),
        "avg_num_neighbors": 40.0,
        "atomic_numbers": [1, 6, 8, 14],
        "correlation": 3,
        "gate": torch.nn.functional.silu,
        "atomic_inter_scale": 1.0,
        "atomic_inter_shift": 0.0,
    }
    model = modules.ScaleShiftMACE(**options).to(device)
    return MACECalculator(models=[model], device=device, default_dtype="float32")


def sevennet(device: str) -> Calculator:
    """SevenNet-0, whose weights are in its wheel."""
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device=device)


def chgnet(device: str) -> Calculator:
    """CHGNet 0.3.0, whose weights are in its wheel."""
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    return CHGNetCalculator(model=CHGNet.load(verbose=False), use_device=device)


PEERS: dict[str, Callable[[str], Calculator]] = {"mace": mace, "sevennet": sevennet, "chgnet": chgnet}
"""Name -> calculator on a device."""

_PACKAGES = {"mace": "mace", "sevennet": "sevenn", "chgnet": "chgnet"}


def installed_calculators() -> list[str]:
    """Names of the peers whose packages are installed."""
    return [name for name, package in _PACKAGES.items() if find_spec(package) is not None]

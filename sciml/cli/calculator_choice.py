"""Which calculator `sciml md` and `sciml relax` use: a checkpoint, or a reference method by name."""

from collections.abc import Callable, Mapping
from typing import Any

from ase.calculators.calculator import Calculator

from sciml.datasets.calculators import calculator_factory


def chosen_calculator(
    checkpoint: str | None,
    calculator: str | None,
    calculator_arguments: Mapping[str, Any],
    *,
    device: str,
    dtype: str,
    skin: float,
    max_memory: str | None = None,
) -> Callable[[], Calculator]:
    """A function that makes calculators without a past; the weights of a checkpoint are read once.

    Raises:
        ValueError: if not exactly one of checkpoint and calculator is given, or it cannot be made.
    """
    if calculator is not None and max_memory is not None:
        raise ValueError("max_memory bounds that of a checkpoint; a reference method has its own memory")
    if checkpoint is None and calculator is not None:
        return calculator_factory(calculator, calculator_arguments)
    if checkpoint is None or calculator is not None:
        raise ValueError("give either --checkpoint (a folder or a name) or --calculator (such as tblite)")
    if calculator_arguments:
        raise ValueError("calculator_arguments belong to --calculator; a checkpoint has its own settings")
    from sciml.potentials.calculator import PotentialCalculator
    from sciml.potentials.checkpoint import load_potential

    potential = load_potential(checkpoint, device=device)
    return lambda: PotentialCalculator(potential, device=device, dtype=dtype, skin=skin, max_memory=max_memory)

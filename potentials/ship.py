"""Make shipped weights out of a run: `potentials/weights/NAME`, a checkpoint with structure.xyz and README.md.

python -m sciml.potentials.ship runs/ethanol ethanol-lens --structure ethanol.xyz
    --data "ethanol, GFN2-xTB, made by sciml label" --licence MIT --limits "one ethanol molecule below 600 K"
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase import Atoms
from ase.data import chemical_symbols

from sciml.files import atomic_write
from sciml.potentials.calculator import PotentialCalculator
from sciml.potentials.checkpoint import MODELS, WEIGHTS, load_potential, save_potential
from sciml.potentials.interface import Potential
from sciml.potentials.model_card import card_text
from sciml.potentials.relaxation import relax
from sciml.potentials.run_folder import RunRecord, read_run
from sciml.shipping import check_card, check_free, portable, put_in_place, run_ship


def ship(
    run: str,
    name: str,
    *,
    structure: str,
    data: str,
    licence: str,
    limits: str,
    weights: Path | None = None,
    replace: bool = False,
) -> Path:
    """Write the best weights of `run` in float32, and their card, to the folder `weights`/`name`, and return it.

    Args:
        run: a run folder, or a checkpoint folder.
        name: by which the weights will be loaded: small letters, digits and dashes.
        structure: a file whose last frame is near a structure that the weights are made for; it is relaxed with them.
        data: on what was trained, where it is from and under which licence.
        licence: of the weights.
        limits: what the potential must not be used for.
        weights: the folder of all shipped weights; by default that of this package.
        replace: whether to replace weights of that name.

    Raises:
        ValueError: if the run or the name cannot be used, a text is empty, no errors are known, the weights are larger
            than 5 MB, or the structure does not relax.
    """
    check_card(name, {"data": data, "licence": licence, "limits": limits}, architectures=MODELS)
    target = (WEIGHTS if weights is None else weights) / name
    check_free(target, replace=replace)
    record = read_run(run)
    if not record.validation and not record.test:
        raise ValueError(
            f"{run} has no errors of validation or test, so that its card could not say how good it is; "
            f"run `sciml evaluate --checkpoint {record.checkpoint} --output {run}/test --data FILE`"
        )
    potential = load_potential(record.checkpoint, dtype=torch.float32)
    card = {
        "data": data,
        "licence": licence,
        "limits": limits,
        "model": record.model,
        "species": [chemical_symbols[z] for z in potential.species],
        "cutoff": potential.cutoff,
        "num_weights": sum(parameter.numel() for parameter in potential.parameters()),
        **facts(record),
    }
    metadata = {key: value for key, value in record.metadata.items() if key != "card"} | {"card": card}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        save_potential(potential, folder, metadata=metadata)
        ase.io.write(folder / "structure.xyz", relaxed(structure, potential), format="extxyz")
        text = card_text(name, card)
        atomic_write(folder / "README.md", lambda path: path.write_text(text, encoding="utf-8"))
        put_in_place(folder, target, replace=replace)
    return target


def relaxed(file: str, potential: Potential) -> Atoms:
    """The last frame of a file at its minimum, nothing but positions, numbers and cell.

    Raises:
        ValueError: if forces stay above 0.01 eV/Å.
    """
    read = ase.io.read(file, index=-1)
    assert isinstance(read, Atoms)
    atoms = Atoms(read.numbers, positions=read.positions, cell=read.cell, pbc=read.pbc)
    atoms.calc = PotentialCalculator(potential, dtype="float64")
    result = relax(atoms, fmax=0.01, max_steps=2000)
    if not result.converged:
        raise ValueError(f"{file} does not relax with these weights: forces are still above 0.01 eV/Å")
    result.atoms.calc = None
    return result.atoms


def facts(record: RunRecord) -> dict[str, Any]:
    """What the card says of the training and its outcome, without the folders of this machine."""
    return {
        "validation": record.validation,
        "test": record.test,
        "test_data": record.test_data,
        "epochs": record.epochs,
        "steps": record.steps,
        "seconds": record.seconds,
        "equivariance_error": record.equivariance_error,
        "settings": portable(record.settings),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line above and return the exit code: 2 for arguments that cannot be used."""
    description = (__doc__ or "").split("\n")[0]
    own = {"structure": "file with a structure that they are made for"}
    return run_ship(ship, argv, program="python -m sciml.potentials.ship", description=description, own=own)


if __name__ == "__main__":
    sys.exit(main())

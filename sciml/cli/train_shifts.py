"""Energies of the elements, found anew after training.

While a model is trained, every update moves the energies of all structures together by more than they are wrong with
respect to each other: the energy of a molecule is a sum over atoms, whose errors add up if they are the same. What is
common to all is linear in the energies of the elements, so that its least-squares solution is known.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols

from sciml.graphs import AtomicGraph
from sciml.potentials.checkpoint import load_potential, read_config, save_potential
from sciml.potentials.interface import Potential
from sciml.potentials.species import SpeciesTable
from sciml.training.loop import errors_of, sums_over
from sciml.training.losses import Objective

KEY = "refitted_shifts"
"""Where the metadata of a checkpoint say by how much its shifts were moved, eV."""


def refit_checkpoint(
    folder: Path, objective: Objective, *, train: Sequence[AtomicGraph], valid: Sequence[AtomicGraph]
) -> str:
    """Refit the shifts of the checkpoint in `folder`, and its metadata, if that makes the validation loss smaller.

    Args:
        folder: written by a training; a checkpoint that was refitted before is left as it is.
        objective: of the training, without terms that need more than the potential.
        train: batches of the training structures, to refit with.
        valid: batches of the validation structures, to judge by.

    Returns:
        What happened, a sentence for the user; nothing if nothing did.
    """
    metadata = read_config(folder)["metadata"]
    if KEY in metadata:
        return ""
    device = train[0].positions.device
    potential = load_potential(folder, device=device).eval()
    if not isinstance(potential, SpeciesTable):
        return ""
    before = errors_of(objective, sums_over(potential, objective, valid, device))
    moves = refit_shifts(potential, train)
    after = errors_of(objective, sums_over(potential, objective, valid, device))
    if not after["valid_loss"] < before["valid_loss"]:
        return ""
    of_energy = {name: value for name, value in after.items() if name.startswith("valid_energy_per_atom")}
    loss = metadata["valid_loss"] + after["valid_loss"] - before["valid_loss"]
    save_potential(potential, folder, metadata={**metadata, **of_energy, "valid_loss": loss, KEY: moves})
    error = "valid_energy_per_atom_rmse"
    return (
        "energies of the elements fitted anew to the training structures: RMSE of validation energies "
        f"{1e3 * before[error]:.3f} → {1e3 * after[error]:.3f} meV/atom"
    )


def refit_shifts(potential: Potential, batches: Sequence[AtomicGraph]) -> dict[str, float]:
    """Move the shifts of a potential by the least-squares solution of its errors; return by how much, eV.

    δ minimises Σ_s [ (E_s - Ê_s) / N_s - Σ_Z (n_Z / N_s) δ_Z ]², the one of smallest norm, over structures s with known
    energy, N_s atoms and n_Z atoms of the element Z. If no structure has an energy, nothing moves.

    Args:
        potential: a `sciml.potentials.species.SpeciesTable`.
        batches: of labelled structures, on the potential's device.
    """
    assert isinstance(potential, SpeciesTable)
    compositions, errors = [], []
    for batch in batches:
        with torch.no_grad():
            missing = (batch.energy - potential(batch).energy).double()  # (systems,)
        counts = missing.new_zeros(batch.num_systems, len(potential.species))
        species = potential.species_lookup[batch.atomic_numbers]
        counts.index_put_((batch.system_index, species), counts.new_ones(()), accumulate=True)
        size = counts.sum(dim=1)
        known = ~missing.isnan()
        compositions.append((counts / size[:, None])[known].cpu().numpy())
        errors.append((missing / size)[known].cpu().numpy())
    fractions, wanted = np.concatenate(compositions), np.concatenate(errors)
    if not len(wanted):
        return {}
    moved, *_ = np.linalg.lstsq(fractions, wanted, rcond=1e-6)
    with torch.no_grad():
        potential.shifts.add_(torch.from_numpy(moved).to(potential.shifts))
    return {chemical_symbols[z]: float(move) for z, move in zip(potential.species, moved, strict=True)}

"""The card of shipped weights: facts in `metadata.card` of config.json, and the same as README.md for people."""

from collections.abc import Mapping
from typing import Any

from sciml.shipping import training_text

_TITLES = {
    "energy_per_atom": ("energy", "meV/atom"),
    "forces": ("forces", "meV/Å"),
    "stress": ("stress", "meV/Å³"),
}


def card_text(name: str, card: Mapping[str, Any]) -> str:
    """README.md of the weights `name`, from the facts that `sciml.potentials.ship` gathers.

    Args:
        name: of the weights, by which they are loaded.
        card: model, species, cutoff (Å), num_weights, data, licence, limits, validation and test (RMSE by property, in
            eV/atom, eV/Å and eV/Å³), epochs, steps, seconds, settings (of `sciml train`), equivariance_error.
    """
    species = ", ".join(card["species"])
    accuracy = "\n".join(_accuracy_rows(card))
    return f"""# {name}

An interatomic potential for {species}: the architecture `{card["model"]}` with {card["num_weights"]} weights in float32
and a cutoff of {card["cutoff"]:g} Å. Energies are in eV, lengths in Å.

## Use

```python
from ase import units
from ase.md.langevin import Langevin
from sciml.potentials import PotentialCalculator, shipped_structure

atoms = shipped_structure("{name}")  # or a structure of your own
atoms.calc = PotentialCalculator.from_checkpoint("{name}")
Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False, logfile="-").run(1000)
```

## Accuracy

| RMSE | validation | test | unit |
|---|---|---|---|
{accuracy}

{_symmetry(card.get("equivariance_error"))}

## Data and licence

Trained on: {card["data"]}

Licence of the weights: {card["licence"]}

## Limits

{card["limits"]}

## Training

{training_text(card)}
"""


def _accuracy_rows(card: Mapping[str, Any]) -> list[str]:
    def shown(errors: Mapping[str, float], key: str) -> str:
        return f"{1e3 * errors[key]:.4g}" if key in errors else "–"

    return [
        f"| {title} | {shown(card['validation'], key)} | {shown(card['test'], key)} | {unit} |"
        for key, (title, unit) in _TITLES.items()
        if key in card["validation"] or key in card["test"]
    ]


def _symmetry(error: float | None) -> str:
    if error is None:
        return "The architecture has no sphere grids whose equivariance error would have to be measured."
    return f"Equivariance error of the sphere grids: {error:.1e} (relative)."

"""Make shipped weights out of a run on fields: `pde/weights/NAME`, a checkpoint with README.md.

python -m sciml.pde.ship runs/pde_ins64_small sinenet-ins64 --flow ins
    --data "smoke, sciml generate ins" --licence MIT --limits "the box, the viscosity and the buoyancy of the data"
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from sciml.files import atomic_write
from sciml.pde.checkpoint import NETWORKS, WEIGHTS, load_surrogate, read_surrogate_config, save_surrogate
from sciml.shipping import check_card, check_free, portable, put_in_place, run_ship, training_text


def ship(
    run: str,
    name: str,
    *,
    flow: str,
    data: str,
    licence: str,
    limits: str,
    weights: Path | None = None,
    replace: bool = False,
) -> Path:
    """Write the best weights of `run` in float32, and their card, to the folder `weights`/`name`, and return it.

    Args:
        run: a run folder of `sciml train` that was given test data.
        name: by which the weights will be loaded: small letters, digits and dashes.
        flow: name of what `sciml generate` made the data of; `sciml rollout NAME` makes others like them.
        data: on what was trained, where it is from and under which licence.
        licence: of the weights.
        limits: what the surrogate must not be used for.
        weights: the folder of all shipped weights; by default that of this package.
        replace: whether to replace weights of that name.

    Raises:
        ValueError: if the run or the name cannot be used, a text is empty, there are no errors of test data, or the
            weights are larger than 5 MB.
    """
    check_card(name, {"flow": flow, "data": data, "licence": licence, "limits": limits}, architectures=NETWORKS)
    target = (WEIGHTS if weights is None else weights) / name
    check_free(target, replace=replace)
    folder = Path(run)
    report = folder / "test" / "evaluation.json"
    if not report.is_file():
        raise ValueError(
            f"{run} has no errors of test data, so that its card could not say how good it is; "
            f"run `sciml evaluate --checkpoint {run}/best --output {run}/test --data FILE`"
        )
    errors = json.loads(report.read_text(encoding="utf-8"))
    surrogate = load_surrogate(folder / "best", dtype=torch.float32)
    description = read_surrogate_config(folder / "best")
    metadata = description.get("metadata", {})
    card = {
        "flow": flow,
        "data": data,
        "licence": licence,
        "limits": limits,
        "model": description["model"],
        "fields": [f"{field.name} ({field.unit})" for field in surrogate.fields],
        "num_weights": sum(parameter.numel() for parameter in surrogate.parameters()),
        "one_step": {key: _mean(errors["one_step"][key]) for key in ("scaled_l2", "persistence", "vrmse")},
        "rollout": {key: [_mean(step) for step in errors["rollout"][key]] for key in ("scaled_l2", "persistence")},
        "correlation_time": errors["rollout"]["correlation_time"],
        "trajectories": errors["trajectories"],
        "epochs": metadata.get("epoch"),
        "steps": metadata.get("step"),
        "settings": portable(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))),
    }
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / name
        save_surrogate(surrogate, made, metadata={**metadata, "card": card})
        text = card_text(name, card, frame_time=surrogate.frame_time, history=surrogate.history)
        atomic_write(made / "README.md", lambda path: path.write_text(text, encoding="utf-8"))
        put_in_place(made, target, replace=replace)
    return target


def card_text(name: str, card: Mapping[str, Any], *, frame_time: float, history: int) -> str:
    """README.md of the weights `name`, from the facts that `ship` gathers."""
    rows = "\n".join(
        f"| {step} | {error:.3f} | {repeated:.3f} |"
        for step, (error, repeated) in enumerate(
            zip(card["rollout"]["scaled_l2"], card["rollout"]["persistence"], strict=True), start=1
        )
    )
    single = card["one_step"]
    return f"""# {name}

A surrogate for {", ".join(card["fields"])}: the architecture `{card["model"]}` with {card["num_weights"]} weights in
float32. It takes {history} frames, {frame_time:g} apart, to the next.

## Use

```python
from sciml.pde import load_surrogate, rollout

surrogate = load_surrogate("{name}")
result = rollout(surrogate, frames, 10)  # frames: (batch, {history}, {len(card["fields"])}, num_x, num_y)
```

`sciml rollout {name}` makes trajectories with the solver, and shows both side by side.

## Accuracy

On {card["trajectories"]} test trajectories, in physical units, the mean over fields of |Δu| / |u|: one step ahead
{single["scaled_l2"]:.4f} (repeating the last frame: {single["persistence"]:.4f}); VRMSE {single["vrmse"]:.4f}.
Rolled out, and beside it who repeats the last frame:

| step | scaled L2 | persistence |
|---|---|---|
{rows}

## Data and licence

Trained on: {card["data"]}

Licence of the weights: {card["licence"]}

## Limits

{card["limits"]}

## Training

{training_text(card)}
"""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line above and return the exit code: 2 for arguments that cannot be used."""
    description = (__doc__ or "").split("\n")[0]
    own = {"flow": "of `sciml generate`"}
    return run_ship(ship, argv, program="python -m sciml.pde.ship", description=description, own=own)


if __name__ == "__main__":
    sys.exit(main())

"""A surrogate: a network with all that it needs to predict in physical units what comes after some frames."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sciml.pde.grid import Grid
from sciml.pde.network import Network
from sciml.pde.stepper import Field


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of a field, or of a parameter.

    Attributes:
        mean: over training data.
        std: likewise; positive.
        delta_std: of the change from one frame to the next; positive.
    """

    mean: float = 0.0
    std: float = 1.0
    delta_std: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not (0 < self.std < math.inf and 0 < self.delta_std < math.inf):
            raise ValueError(
                f"got mean={self.mean}, std={self.std}, delta_std={self.delta_std}; deviations must be positive, "
                "and they are zero for what is the same everywhere: leave that field or parameter out"
            )


class Surrogate(nn.Module):
    """u_{n−history+1} … u_n → u_{n+1} … u_{n+bundle}, all in physical units.

    The network N works in units of the standard deviations, ũ = (u − mean) / std. It gives the next states, ũ_{n+k} =
    N_k, or with `delta` changes from the last frame, u_{n+k} = u_n + delta_std N_k.

    Args:
        network: of history × fields channels in, bundle × fields out, oldest frame first.
        fields: what the channels of a frame are.
        grid: that it is trained on, with boundaries; another grid of points of the same size can do.
        frame_time: time between frames, in the unit of time of the fields.
        normalisation: of each field, by name.
        history: frames that it sees.
        bundle: frames that it predicts at once (temporal bundling, arXiv:2202.03376).
        delta: whether it predicts changes.
        parameters: normalisation of the numbers that it is conditioned on, by name and in order.
        at: where in a cell the values are, see `sciml.pde.Stepper`; or "faces": components of vectors at lower faces.
        units: of length and time, for those who read the checkpoint.

    Raises:
        ValueError: if the network does not fit the fields or the grid, or its padding contradicts the boundaries.
    """

    mean: Tensor
    std: Tensor
    delta_std: Tensor
    parameter_mean: Tensor
    parameter_std: Tensor

    def __init__(
        self,
        network: Network,
        *,
        fields: Sequence[Field],
        grid: Grid,
        frame_time: float,
        normalisation: Mapping[str, Normalisation],
        history: int = 1,
        bundle: int = 1,
        delta: bool = False,
        parameters: Mapping[str, Normalisation] | None = None,
        at: str = "centers",
        units: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        names = [field.name for field in fields]
        parameters = dict(parameters or {})
        if set(normalisation) != set(names) or len(set(names)) != len(names):
            raise ValueError(f"got the normalisation of {sorted(normalisation)}; the fields are {names}")
        expected = {
            "channels_in": history * len(fields),
            "channels_out": bundle * len(fields),
            "num_parameters": len(parameters),
        }
        got = {key: network.config.get(key, 0) for key in expected}
        if got != expected:
            raise ValueError(
                f"got a network with {got}; {len(fields)} fields, history={history}, bundle={bundle} and the "
                f"parameters {list(parameters)} need {expected}"
            )
        if not 0 < frame_time < math.inf:
            raise ValueError(f"got frame_time={frame_time}; it must be positive")
        network.check_grid(*grid.shape)
        for axis, (kind, boundary) in enumerate(zip(network.config["padding"], grid.boundaries, strict=True)):
            if (kind, boundary) in (("circular", "wall"), ("mirror", "periodic")):
                raise ValueError(
                    f"got the padding {kind!r} along {'xy'[axis]}, where the boundary is {boundary!r}; "
                    f"give {'mirror or zeros' if boundary == 'wall' else 'circular'}"
                )
        self.network, self.fields, self.grid, self.at = network, tuple(fields), grid, at
        self.frame_time, self.history, self.bundle, self.delta = frame_time, history, bundle, delta
        self.normalisation = {name: normalisation[name] for name in names}
        self.parameters_normalisation, self.units = parameters, dict(units or {})
        for name in ("mean", "std", "delta_std"):
            values = torch.tensor([getattr(one, name) for one in self.normalisation.values()])
            self.register_buffer(name, values[:, None, None], persistent=False)
        for name in ("mean", "std"):
            values = torch.tensor([getattr(one, name) for one in parameters.values()])
            self.register_buffer(f"parameter_{name}", values, persistent=False)
        self.channels_last = False

    @property
    def description(self) -> dict[str, Any]:
        """All but the network, as JSON values."""
        return {
            "fields": [asdict(field) for field in self.fields],
            "grid": {**asdict(self.grid), "at": self.at},
            "frame_time": self.frame_time,
            "units": self.units,
            "history": self.history,
            "bundle": self.bundle,
            "delta": self.delta,
            "normalisation": {name: asdict(one) for name, one in self.normalisation.items()},
            "parameters": {name: asdict(one) for name, one in self.parameters_normalisation.items()},
        }

    def normalised(self, frames: Tensor) -> Tensor:
        """ũ of frames (..., fields, num_x, num_y)."""
        return (frames - self.mean) / self.std

    def physical(self, frames: Tensor) -> Tensor:
        """Frames of ũ (..., fields, num_x, num_y)."""
        return frames * self.std + self.mean

    def predict(self, history: Tensor, parameters: Tensor | None = None) -> Tensor:
        """ũ of the next frames.

        Args:
            history: ũ of the last ones, (batch, history, fields, num_x, num_y).
            parameters: (batch, parameters), in physical units.

        Returns:
            (batch, bundle, fields, num_x, num_y).
        """
        u = history.flatten(1, 2)
        if self.channels_last:
            u = u.contiguous(memory_format=torch.channels_last)
        if parameters is not None:
            parameters = 10 * (parameters - self.parameter_mean) / self.parameter_std
        found = self.network(u, parameters).unflatten(1, (self.bundle, len(self.fields)))
        return history[:, -1:] + self.delta_std / self.std * found if self.delta else found

    def forward(self, u: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The next frames in physical units, (batch, bundle · fields, num_x, num_y).

        Args:
            u: the last frames, (batch, history · fields, num_x, num_y), oldest first.
            parameters: (batch, parameters).

        Raises:
            ValueError: if u or the parameters do not fit.
        """
        self.check(u, parameters)
        history = u.unflatten(1, (self.history, len(self.fields)))
        return self.physical(self.predict(self.normalised(history), parameters)).flatten(1, 2)

    def check(self, u: Tensor, parameters: Tensor | None) -> None:
        """Raise a ValueError if fields or parameters do not fit."""
        channels = self.history * len(self.fields)
        if u.dim() != 4 or u.shape[1] != channels:
            names = ", ".join(field.name for field in self.fields)
            raise ValueError(
                f"got fields of shape {tuple(u.shape)}; expected (batch, {channels}, num_x, num_y): {self.history} "
                f"frames, oldest first, of {names}"
            )
        if u.dtype != self.mean.dtype:
            raise ValueError(f"got fields of {u.dtype} for a surrogate of {self.mean.dtype}; convert one of them")
        wanted = (len(u), len(self.parameters_normalisation)) if self.parameters_normalisation else None
        if (None if parameters is None else tuple(parameters.shape)) != wanted:
            raise ValueError(
                f"got parameters of shape {None if parameters is None else tuple(parameters.shape)}; expected {wanted}:"
                f" {', '.join(self.parameters_normalisation) or 'none'}"
            )

    def compile_regions(self) -> None:
        """Compile the network by torch.compile: its regions if it has some, which are alike, else as a whole."""
        for part in self.network.regions() or [self.network]:
            part.compile()

"""A run of a field: what was saved of it, and the state from which it continues bit by bit; as a NetCDF file."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sciml.files import atomic_write

if TYPE_CHECKING:
    import xarray

    from sciml.integrators.klein_gordon import KleinGordon

Array = NDArray[Any]

FORMAT = 1

# variable: (unit, what it is); c = ħ = 1
VARIABLES = {
    "phi": ("1", "field"),
    "pi": ("mass", "time derivative of the field"),
    "energy": ("mass", "energy on the grid"),
    "momentum": ("mass", "momentum"),
    "topological_charge": ("1", "difference of the field between the ends over that of neighbouring vacua"),
    "absorbed": ("mass", "energy that the absorbing layer has taken"),
}


class FieldState(NamedTuple):
    """Coefficients of φ and π: float64 with the errors of compensated sums, or int64 in fixed point."""

    phi: NDArray[Any]
    pi: NDArray[Any]
    phi_error: Array | None = None
    pi_error: Array | None = None


@dataclass(frozen=True, eq=False)
class FieldRun:
    """Saved frames of a run.

    Attributes:
        settings: of the solver.
        coordinates: points along each axis, in 1/mass.
        interval: time between two frames.
        steps: time steps between two frames.
        t: (frames,).
        phi: (frames, *shape).
        pi: (frames, *shape).
        energy: (frames,).
        momentum: (frames, axes).
        topological_charge: (frames,); None where it is not defined: on planes, and with a single vacuum.
        absorbed: energy that the absorbing layer has taken since the beginning, (frames,).
        state: at the last frame.
        mass_squared: M² of the exact linear part.
        reference: coefficients of the field about which it is linear.
        notes: what else is to be known of the run, such as the preset, its parameters and the seed.
    """

    settings: dict[str, Any]
    coordinates: tuple[Array, ...]
    interval: float
    steps: int
    t: Array
    phi: Array
    pi: Array
    energy: Array
    momentum: Array
    topological_charge: Array | None
    absorbed: Array
    state: FieldState
    mass_squared: float
    reference: Array
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def dt(self) -> float:
        """The time step; negative in a run backwards."""
        return self.interval / self.steps

    @property
    def x(self) -> Array:
        """Points along the first axis."""
        return self.coordinates[0]

    @property
    def energy_error(self) -> float:
        """Largest |E/E_0 − 1|, with E_0 and what the layer took."""
        total = self.energy + self.absorbed
        return float(np.abs(total / total[0] - 1).max())

    def reversed(self) -> "FieldRun":
        """The run, to be continued backwards in time."""
        return replace(self, interval=-self.interval)

    @classmethod
    def start(
        cls, solver: "KleinGordon", state: FieldState, *, interval: float, steps: int, linear: tuple[float, Array]
    ) -> "FieldRun":
        """The run with its first frame."""
        from sciml.integrators.fixed_point import FixedPointLoop

        phi, pi = FixedPointLoop.decode(state)
        found = solver.diagnostics(phi[None], pi[None])
        space = solver.space
        return cls(
            solver.settings(), space.coordinates, interval, steps, np.zeros(1), space.to_points(phi)[None],
            space.to_points(pi)[None], found.energy, found.momentum, found.topological_charge, np.zeros(1), state,
            *linear,
        )  # fmt: skip

    def following(
        self, solver: "KleinGordon", phis: Array, pis: Array, taken: Array, state: FieldState, *, after: int
    ) -> "FieldRun":
        """Frames of coefficients that follow `after` others on the last one of this run."""
        found, space = solver.diagnostics(phis, pis), solver.space
        # Frames are counted, so that their times do not depend on where a run was cut.
        first = round(self.t[-1] / self.interval) + after + 1
        return replace(
            self,
            t=(first + np.arange(len(phis))) * self.interval,
            phi=np.stack([space.to_points(one) for one in phis]),
            pi=np.stack([space.to_points(one) for one in pis]),
            energy=found.energy,
            momentum=found.momentum,
            topological_charge=found.topological_charge,
            absorbed=taken,
            state=state,
        )

    @staticmethod
    def joined(parts: "list[FieldRun]") -> "FieldRun":
        """One run of the first and what followed, whose `absorbed` still counts from frame to frame."""
        names = ("t", "phi", "pi", "energy", "momentum", "topological_charge")
        whole: dict[str, Any] = {
            name: None if getattr(parts[0], name) is None else np.concatenate([getattr(one, name) for one in parts])
            for name in names
        }
        total = np.concatenate([[parts[0].absorbed[-1]], *(one.absorbed for one in parts[1:])])
        absorbed = np.concatenate([parts[0].absorbed[:-1], np.cumsum(total)])
        return replace(parts[-1], **whole, absorbed=absorbed)

    # --- files --------------------------------------------------------------------------------------------------------

    def to_dataset(self) -> "xarray.Dataset":
        """As an xarray dataset with units; `attrs` has the settings, and what `from_dataset` needs to continue."""
        import xarray

        axes = ("x", "y")[: len(self.coordinates)]
        dims = {"phi": ("t", *axes), "pi": ("t", *axes), "momentum": ("t", "axis")}
        data: dict[str, Any] = {}
        for name, (unit, meaning) in VARIABLES.items():
            values = getattr(self, name)
            if values is not None:
                data[name] = (dims.get(name, ("t",)), values, {"units": unit, "long_name": meaning})
        for name, values in self.state._asdict().items():
            if values is not None:
                data[f"state_{name}"] = (("coefficient",), values, {"long_name": f"{name} to continue from"})
        data["reference"] = (
            ("coefficient",),
            self.reference,
            {"long_name": "coefficients of the linear part's centre"},
        )
        coordinates: dict[str, Any] = {
            axis: (axis, points, {"units": "1/mass"}) for axis, points in zip(axes, self.coordinates, strict=True)
        }
        coordinates["t"] = ("t", self.t, {"units": "1/mass", "long_name": "time"})
        import sciml

        attributes = {
            "title": f"Klein-Gordon field with the potential {self.settings['potential']}",
            "unit_system": "c = hbar = 1",
            "sciml_version": sciml.__version__,
            "format_version": FORMAT,
            "settings": json.dumps(self.settings, ensure_ascii=False),
            "notes": json.dumps(self.notes, ensure_ascii=False),
            "interval": self.interval,
            "steps_per_frame": self.steps,
            "mass_squared": self.mass_squared,
        }
        if self.topological_charge is None:
            attributes["topological_charge"] = "not defined: on a plane, or with a single vacuum"
        return xarray.Dataset(data, coordinates, attributes)

    @classmethod
    def from_dataset(cls, dataset: "xarray.Dataset") -> "FieldRun":
        """The run that was written.

        Raises:
            ValueError: if it is not one, or of a later format.
        """
        attributes = dataset.attrs
        if int(attributes.get("format_version", FORMAT + 1)) > FORMAT or "settings" not in attributes:
            raise ValueError("this is no run of a field, or one of a later version of this package")

        def values(name: str) -> Any:
            return dataset[name].values if name in dataset else None

        axes = [axis for axis in ("x", "y") if axis in dataset.coords]
        return cls(
            settings=json.loads(attributes["settings"]),
            coordinates=tuple(dataset[axis].values for axis in axes),
            interval=float(attributes["interval"]),
            steps=int(attributes["steps_per_frame"]),
            state=FieldState(*(values(f"state_{name}") for name in FieldState._fields)),
            mass_squared=float(attributes["mass_squared"]),
            reference=values("reference"),
            notes=json.loads(attributes["notes"]),
            t=values("t"),
            **{name: values(name) for name in VARIABLES},
        )

    def save(self, path: str | Path) -> None:
        """Write it as NetCDF (.nc); a file that was there stays whole until the new one is.

        Raises:
            OSError: if the disk is full, for example.
            ValueError: if the name does not end in .nc.
        """
        import h5netcdf

        path = check_file_name(path)
        dataset = self.to_dataset()
        packed = {name: {"zlib": True, "complevel": 1, "shuffle": True} for name in ("phi", "pi")}
        atomic_write(path, lambda temporary: dataset.to_netcdf(temporary, engine=h5netcdf.__name__, encoding=packed))

    @classmethod
    def load(cls, path: str | Path) -> "FieldRun":
        """A run that `save` wrote."""
        import xarray

        if not Path(path).exists():
            raise ValueError(f"there is no file {path}")
        with xarray.open_dataset(path, engine="h5netcdf") as dataset:
            return cls.from_dataset(dataset.load())

    def with_notes(self, notes: dict[str, Any]) -> "FieldRun":
        """The run with these notes."""
        return replace(self, notes=notes)


def check_file_name(path: str | Path) -> Path:
    """The path.

    Raises:
        ValueError: if it does not end in .nc.
    """
    path = Path(path)
    if path.suffix != ".nc":
        raise ValueError(f"got {path.name!r}; runs are written as NetCDF: give a name that ends in .nc")
    return path

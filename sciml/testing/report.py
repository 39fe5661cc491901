"""The report of a check: the measured error of each law beside what is tolerated."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LawReport:
    """Measured error and tolerance of each law; a tolerance of None marks a law that is not claimed.

    Attributes:
        errors: by law.
        tolerances: of these laws, and possibly of others.
        left_out: why a law could not be measured, by law.
    """

    errors: dict[str, float]
    tolerances: dict[str, float | None]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Laws that are broken; an error that is not a number breaks its law."""
        demanded = {
            law: limit for law, limit in self.tolerances.items() if limit is not None and law not in self.left_out
        }
        return [law for law, limit in demanded.items() if not self.errors[law] <= limit]

    def __str__(self) -> str:
        rows = [f"{'law':<16}{'error':>10}{'tolerance':>12}"]
        for law, error in self.errors.items():
            tolerance = self.tolerances[law]
            limit = "not claimed" if tolerance is None else f"{tolerance:.0e}" if tolerance else "exact"
            rows.append(f"{law:<16}{error:>10.1e}{limit:>12}{'   BROKEN' * (law in self.failed)}")
        rows += [f"{law:<16}{'-':>10}{'left out':>12}   {reason}" for law, reason in self.left_out.items()]
        return "\n".join(rows)


def merged(defaults: Mapping[str, float], given: Mapping[str, float] | None) -> dict[str, float | None]:
    """Tolerances of which some are replaced.

    Raises:
        ValueError: if one names no law.
    """
    unknown = set(given or {}) - defaults.keys()
    if unknown:
        raise ValueError(f"there is no law {', '.join(sorted(unknown))}; the laws are {', '.join(defaults)}")
    return {**defaults, **(given or {})}

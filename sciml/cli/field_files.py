"""Trajectories of fields from files, for the jobs on surrogates."""

from collections.abc import Sequence

from sciml.pde.field_data import Trajectories


def read_trajectories(files: Sequence[str]) -> Trajectories:
    """All trajectories of some files.

    Raises:
        ValueError: if there are none.
    """
    raise NotImplementedError(files)

"""Workers that share out a job: processes of this machine or of a Dask cluster, watched by the files they write."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import joblib

POLL_SECONDS = 0.2


@contextmanager
def workers(processes: int, dask: str | None) -> Iterator[joblib.Parallel]:
    """A joblib.Parallel over processes of this machine or over a Dask cluster, one thread each.

    Args:
        processes: how many at a time on this machine.
        dask: address of a Dask scheduler, or "local" for one started here with `processes` workers; None for none.

    Raises:
        ValueError: if there are no processes, dask is not installed, or no scheduler answers.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    if dask is None:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield joblib.Parallel(n_jobs=processes, batch_size=1)
        return
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ValueError("dask is not installed; pip install sciml-suite[dask]") from error
    if dask == "local":
        target: Any = LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None)
    elif "://" in dask:
        target = dask
    else:
        raise ValueError(f"dask must be local or an address such as tcp://host:8786, got {dask!r}")
    try:
        try:
            client = Client(target, timeout="20s")
        except OSError as error:
            raise ValueError(f"no Dask scheduler answers at {dask!r}: {error}") from error
        with client, joblib.parallel_config(backend="dask"):
            yield joblib.Parallel(batch_size=1)
    finally:
        if dask == "local":
            target.close()


@contextmanager
def polling(action: Callable[[], None] | None) -> Iterator[None]:
    """Call `action` every POLL_SECONDS and once at the end; files are what all kinds of workers share."""
    if action is None:
        yield
        return
    done = threading.Event()

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            action()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        action()

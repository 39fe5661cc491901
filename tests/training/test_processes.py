import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("tiny_run.py")
ROOT = SCRIPT.parents[2]


@pytest.mark.parametrize("batch_size", [11])
def test_two_processes_give_the_result_of_one(tiny, tmp_path, batch_size):
    """23 structures in batches of 11: of the last batch, with one structure, one process has nothing."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    arguments = [str(tmp_path / "two"), "--processes", "2", "--max_epochs", "3", "--batch_size", str(batch_size)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tiny.tiny_run(tmp_path / "one", max_epochs=3, batch_size=batch_size)
    one, two = (torch.load(tmp_path / n / "last" / "training_state.pt", weights_only=True) for n in ("one", "two"))
    assert one["progress"]["step"] == two["progress"]["step"] == 9
    for kind in ("model", "average"):
        for name, weight in one[kind].items():
            torch.testing.assert_close(two[kind][name], weight, rtol=1e-11, atol=1e-12)
    for row, other in zip(one["progress"]["rows"], two["progress"]["rows"], strict=True):
        assert other == pytest.approx(row, rel=1e-11)

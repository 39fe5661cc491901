import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="session")
def tiny():
    """The module tiny_run, which is also run as a script in other processes."""
    spec = importlib.util.spec_from_file_location("tiny_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""Every test starts from the same seeds and leaves torch's defaults as it found them."""

import os
import random

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter, which has to be chosen before anything imports Triton.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _reproducible():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from the global generator
    torch.manual_seed(0)
    yield
    assert torch.get_default_dtype() == torch.float32, "the test, or what it calls, changed torch's default dtype"

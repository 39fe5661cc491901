import gzip
import hashlib
import os

import numpy as np
import pytest

from sciml.datasets import BENCHMARKS, load_benchmark, read_structures, reference_energies
from sciml.datasets.benchmarks import benchmark_file

FRAME = b"1\nProperties=species:S:1:pos:R:3 energy=-13.6\nH 0 0 0\n"

# Name, split and the frames that have an energy, forces and a stress. Without a local copy there is nothing to read.
COUNTS = [
    ("acac", "train", (500, 500, 0)),
    ("acac", "isolated_atoms", (3, 0, 0)),
    ("mlearn/Si", "train", (214, 214, 202)),
]
COUNTS = COUNTS if os.environ.get("SCIML_DATA") else []


def test_local_copies_have_the_published_counts():
    for name, split, counts in COUNTS:
        data = load_benchmark(name, split)
        found = [np.array([np.isfinite(getattr(s, label)).all() for s in data]).sum() for label in LABELS]
        assert tuple(found) == counts, (name, split)
        if split == "train" and "isolated_atoms" in BENCHMARKS[name].files:
            energies = reference_energies([*data, *load_benchmark(name, "isolated_atoms")], "isolated")
            binding = [s.energy - sum(energies[symbol] for symbol in s.atoms.symbols) for s in data]
            assert -6 < np.mean(binding) / 15 < -4  # eV/atom, for organic molecules


LABELS = ("energy", "forces", "stress")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIML_DATA", str(tmp_path))
    path = tmp_path / "acac" / "isolated_atoms.xyz.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(FRAME))
    return path


def test_checksum_is_verified(copy, monkeypatch):
    with pytest.raises(ValueError, match=r"isolated_atoms\.xyz\.gz has the md5 checksum .*; expected 68b66ee4e4"):
        load_benchmark("acac", "isolated_atoms")
    checksum = hashlib.md5(copy.read_bytes()).hexdigest()
    monkeypatch.setitem(BENCHMARKS["acac"].files, "isolated_atoms", ("acac/isolated_atoms.xyz.gz", checksum))
    assert benchmark_file("acac", "isolated_atoms") == copy
    assert load_benchmark("acac", "isolated_atoms")[0].energy == -13.6


def test_without_a_copy_the_source_is_named(monkeypatch, tmp_path):
    source = r"github\.com/davkovacs/BOTNet-datasets at commit 29e6d46.*dataset_acac/ \(MIT; .*arXiv:2205\.06643"
    monkeypatch.delenv("SCIML_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=f"SCIML_DATA is not set; .*{source}"):
        load_benchmark("acac")
    monkeypatch.setenv("SCIML_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"which holds no 'acac/train_300K.xyz.gz'; .*{source}"):
        load_benchmark("acac")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"unknown benchmark 'acacc'; did you mean acac\?"):
        load_benchmark("acacc")
    with pytest.raises(
        ValueError, match=r"unknown split of mlearn/Si 'tset'; did you mean test\? there are train, test"
    ):
        load_benchmark("mlearn/Si", "tset")


def test_table_is_complete():
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.licence
        assert benchmark.source.startswith("https://github.com/")
        for path, checksum in benchmark.files.values():
            assert path.startswith(f"{name}/")
            assert len(checksum) == 32


def test_compressed_file_is_read_like_a_plain_one(tmp_path):
    (tmp_path / "plain.xyz").write_bytes(3 * FRAME)
    (tmp_path / "packed.xyz.gz").write_bytes(gzip.compress(3 * FRAME))
    for index, count in ((":", 3), ("-2:", 2), ("1", 1)):
        plain = read_structures(tmp_path / "plain.xyz", index=index)
        packed = read_structures(tmp_path / "packed.xyz.gz", index=index)
        assert [s.energy for s in packed] == [s.energy for s in plain] == [-13.6] * count

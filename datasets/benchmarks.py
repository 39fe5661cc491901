"""Public labelled sets on which published accuracies were measured, read from a local copy.

The files are conversions (gzipped extended XYZ in eV, Å, eV/Å, eV/Å³) of data in the repositories named below, so the
checksums are those of the conversions and nothing can be downloaded by them: the folder that holds the local copy is
named by the environment variable SCIML_DATA, and every file is compared with its checksum before it is read.
Train and validate on "train" splits only; "test" splits are for the final number.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sciml.datasets.checks import Checks
from sciml.datasets.structures import LabelledStructure, read_structures
from sciml.messages import did_you_mean

_BOTNET = "https://github.com/davkovacs/BOTNet-datasets at commit 29e6d467317e4b5967b7ea5cbee54de953fa0d45"
_MLEARN = "https://github.com/materialsvirtuallab/mlearn at commit 10c427a5480c6281c15c64efaf869b03be04818f, data/"
_MAML = "https://github.com/materialsvirtuallab/maml at commit f7c0b6f687c994b3bb87a380bffcc1c041781b4d"
_MATTERSIM = "https://github.com/microsoft/mattersim at commit 296630372948fd35613939d14d3f97daa27cefda"
_MACE_JAX = "https://github.com/ACEsuit/mace-jax at commit 9fe59d9d0f953c4a052b522a386d5b855bea248f, data/"
_DEEPMD = "https://github.com/deepmodeling/deepmd-kit at commit bc902daf747d93c5d7314338d287fd2dd0a7e32c"
_ZUO = "Zuo et al., J. Phys. Chem. A 124, 731 (2020), doi:10.1021/acs.jpca.9b08723; PBE"
_BATATIA = "Batatia et al., arXiv:2205.06643"


@dataclass(frozen=True)
class Benchmark:
    """A public set.

    Attributes:
        files: split -> (path below SCIML_DATA, md5 of the file).
        source: repository and commit that the files were converted from.
        licence: of the source repository.
        citation: paper and level of theory.
        checks: which checks the data are known to pass.
    """

    files: Mapping[str, tuple[str, str]]
    source: str
    licence: str
    citation: str
    checks: Checks = field(default_factory=Checks)


BENCHMARKS: dict[str, Benchmark] = {
    "3bpa": Benchmark(
        # The derived test sets are blocks of the mixed-temperature training file, not the published test sets.
        files={
            "train": ("3bpa/train_300K.xyz.gz", "38491abf67591f6866f711b5940ffec5"),
            "derived_test_300K": ("3bpa/derived_test_300K_n136.xyz.gz", "8a02e8d8584a57798b343d7503eb35f3"),
            "derived_test_600K": ("3bpa/derived_test_600K_n167.xyz.gz", "a0b38d8a482c2b68989dda715616e1d3"),
            "isolated_atoms": ("3bpa/iso_atoms.xyz.gz", "ef362176f7b04f053b6b15b5564368f1"),
        },
        source=f"{_BOTNET}, dataset_3BPA/",
        licence="MIT",
        citation="Kovács et al., J. Chem. Theory Comput. 17 (2021), doi:10.1021/acs.jctc.1c00647; ωB97X/6-31G(d)",
    ),
    "acac": Benchmark(
        files={
            "train": ("acac/train_300K.xyz.gz", "c81eddb399b602a015c5eff71bf39c1f"),
            "test": ("acac/test_MD_300K.xyz.gz", "80fa73a3a49cf005818899eab55a2818"),
            "isolated_atoms": ("acac/isolated_atoms.xyz.gz", "68b66ee4e4b4191cb61b6f85df296939"),
        },
        source=f"{_BOTNET}, dataset_acac/",
        licence="MIT",
        citation=f"{_BATATIA}; PBE+D3/def2-SVP",
    ),
    "ethanol_botnet": Benchmark(
        files={
            "train": ("ethanol_botnet/train.xyz.gz", "569a7a90aeb75f60e8b827a114232722"),
            "train_methanol": ("ethanol_botnet/train_eth_meth.xyz.gz", "78a4e4e3b24d5acd8ed75cd4189385a1"),
            "test": ("ethanol_botnet/test_MD.xyz.gz", "baa0337cf771b3e0d29f5f11ec0c41b9"),
            "test_methanol": ("ethanol_botnet/test_eth_meth.xyz.gz", "a7f389b75a0d781d74a71a0024d225bc"),
            "test_H_removal": ("ethanol_botnet/test_H_removal.xyz.gz", "da681b78075ec70a016bede69f828485"),
            "isolated_atoms": ("ethanol_botnet/isolated_atoms.xyz.gz", "755bfc9270ed45013067c57e4752b1c2"),
        },
        source=f"{_BOTNET}, dataset_ethanol/",
        licence="MIT",
        citation=f"Christensen and von Lilienfeld 2020, doi:10.1088/2632-2153/abba6f, and {_BATATIA}; PBE/def2-SVP",
    ),
    "mattersim_bench": Benchmark(
        files={
            "test_alexandria": ("mattersim_bench/alexandria-random-1k.xyz.gz", "c193400d1b15bb298bd0f7895e187a2e"),
            "test_mptrj": ("mattersim_bench/mptrj-random-1k.xyz.gz", "cf07d12200fa2a637a7edfaa05844a8b"),
            "test_mptrj_stress": ("mattersim_bench/mptrj-highest-stress-1k.xyz.gz", "ee4c03d934121517dd9ddb876acf2219"),
            "test_water": ("mattersim_bench/high_level_water.xyz.gz", "3183882437cb00606180c1035679fdb8"),
        },
        source=_MATTERSIM,
        licence="MIT",
        citation="Yang et al., arXiv:2405.04967; PBE(+U)",
        checks=Checks(stress_units=False),  # chosen for their stress: up to 11 eV/Å³, median 0.67
    ),
    "mlearn/Ge": Benchmark(
        files={"train": ("mlearn/Ge/train.xyz.gz", "d315fc7093003e43f366484a8fc89fee")},
        source=_MLEARN,
        licence="BSD-3-Clause",
        citation=_ZUO,
    ),
    "mlearn/Li": Benchmark(
        files={
            "train": ("mlearn/Li/train.xyz.gz", "fc1da3639628a4af1041554dee0860a7"),
            "test": ("mlearn/Li/test.xyz.gz", "d5a0629fe29fff6bd5468945c7be0927"),
        },
        source=_MLEARN,
        licence="BSD-3-Clause",
        citation=_ZUO,
    ),
    "mlearn/Mo": Benchmark(
        files={
            "train": ("mlearn/Mo/train.xyz.gz", "f70b50f3dc47435dd958757a9fc2edce"),
            "test": ("mlearn/Mo/test.xyz.gz", "8af2f0642c0ad482a08dff0d26047d77"),
        },
        source=_MLEARN,
        licence="BSD-3-Clause",
        citation=_ZUO,
    ),
    "mlearn/Si": Benchmark(
        files={
            "train": ("mlearn/Si/train.xyz.gz", "657735726ad13b4eccb643cba9dbd9b6"),
            "test": ("mlearn/Si/test.xyz.gz", "07964a644a1ffad75094a89be394aca2"),
        },
        source=_MLEARN,
        licence="BSD-3-Clause",
        citation=_ZUO,
    ),
    "monbtaw": Benchmark(
        files={
            "train": ("monbtaw/train_unary_binary.xyz.gz", "f6adb10730a22bafee34fe454505a46f"),
            "test": ("monbtaw/test.xyz.gz", "42d5f879af859989fa7051e0a1909028"),
        },
        source=f"{_MAML}, mvl_models/pes/MoNbTaW/training/",
        licence="BSD-3-Clause",
        citation="Li et al., npj Comput. Mater. 6, 70 (2020); PBE",
    ),
    "rmd17_aspirin": Benchmark(
        files={
            "train": ("rmd17_aspirin/train.xyz.gz", "6c64f3ddaf79ac4028a75d71899f8272"),
            "test": ("rmd17_aspirin/test.xyz.gz", "0868d53249e10adc3ade149fcc74979c"),
        },
        source=_MACE_JAX,
        licence="MIT",
        citation="Christensen and von Lilienfeld 2020, doi:10.1088/2632-2153/abba6f; PBE/def2-SVP",
    ),
    "water_dpmd": Benchmark(
        files={"train": ("water_dpmd/water_192atoms.xyz.gz", "3813ab45d2048ec068e88998583e9208")},
        source=f"{_DEEPMD}, examples/water/data/",
        licence="LGPL-3.0",
        citation="Zhang et al., Phys. Rev. Lett. 120, 143001 (2018)",
    ),
}


def load_benchmark(name: str, split: str = "train") -> list[LabelledStructure]:
    """Read one split of a public set from the local copy in the folder SCIML_DATA.

    Raises:
        ValueError: if the set or the split is unknown, or the file differs from the one that the checksum is of.
        FileNotFoundError: if there is no local copy; the message says where the data come from.
    """
    return read_structures(benchmark_file(name, split), checks=BENCHMARKS[name].checks)


def benchmark_file(name: str, split: str = "train") -> Path:
    """Path of one split in the local copy, its checksum verified (raises like `load_benchmark`)."""
    benchmark = BENCHMARKS[_known("benchmark", name, BENCHMARKS)]
    relative, checksum = benchmark.files[_known(f"split of {name}", split, benchmark.files)]
    root = os.environ.get("SCIML_DATA")
    path = Path(root or "", relative)
    if not root or not path.is_file():
        state = f"SCIML_DATA is {root!r}, which holds no {relative!r}" if root else "SCIML_DATA is not set"
        raise FileNotFoundError(
            f"{state}; set it to the folder with the local copy of the public sets. The original of {relative!r} is in "
            f"{benchmark.source} ({benchmark.licence}; {benchmark.citation}); convert it to extended XYZ in eV and Å, "
            "or read it with read_structures"
        )
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(
            f"{path} has the md5 checksum {found}; expected {checksum}. The copy is damaged or of another "
            "version, and numbers measured on it cannot be compared; copy it anew, or read it with read_structures"
        )
    return path


def _known(what: str, name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}{did_you_mean(name, known) or ';'} there are {', '.join(known)}")
    return name

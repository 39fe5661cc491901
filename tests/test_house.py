"""Guards of the layout: what is packaged, who imports whom, and what importing costs."""

import ast
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("potentials", "pde", "integrators", "datasets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
HEAVY = (
    "torch",
    "ase",
    "triton",
    "lightning",
    "lightning_fabric",
    "numpy",
    "scipy",
    "numba",
    "gymnasium",
    "jsonargparse",
)

# part: the parts of sciml that it must not import. "core" is everything in sciml/ but the command line.
FORBIDDEN = {
    "core": {"potentials", "pde", "integrators", "datasets", "cli"},
    "potentials": {"pde", "integrators", "datasets", "cli"},
    "pde": {"potentials", "integrators", "datasets", "cli"},
    "integrators": {"potentials", "pde", "datasets", "cli"},
    "datasets": {"cli"},
    "cli": set(),
}


def python(code: str, *, cwd: Path = ROOT, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": "" if path is None else str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def package_folders() -> dict[str, Path]:
    """Import name to folder of every folder below the parts that has an `__init__.py`."""
    folders = {}
    for part in ("sciml", *PARTS):
        for init in (ROOT / part).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            folders[name if part == "sciml" else f"sciml.{name}"] = init.parent
    return folders


def test_packages_of_pyproject_are_the_folders_with_an_init():
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())


def test_no_module_lies_in_a_folder_without_an_init():
    folders = set(package_folders().values())
    stray = [path for part in ("sciml", *PARTS) for path in (ROOT / part).rglob("*.py") if path.parent not in folders]
    assert stray == []


def test_sciml_offers_every_part_lazily():
    import sciml

    modules = {path.stem for path in (ROOT / "sciml").glob("*.py")} - {"__init__"}
    folders = {name.split(".")[1] for name in package_folders() if name.count(".") == 1}
    assert set(sciml._PARTS) == modules | folders
    assert set(sciml._PARTS) <= set(dir(sciml))
    with pytest.raises(AttributeError, match="has no attribute 'potential'"):
        sciml.potential  # noqa: B018


# --- import directions ------------------------------------------------------------------------------------------------


def part_of(path: Path) -> str:
    first, *rest = path.relative_to(ROOT).parts
    if first in PARTS:
        return first
    return "cli" if rest[0] == "cli" else "core"


def imported_modules(source: str) -> set[str]:
    """Full names of all that a file imports absolutely, wherever in it the import stands."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            assert getattr(node, "level", 0) <= 1, "imports from parent packages are written out: from sciml.… import …"
    return modules


def imported_parts(source: str) -> set[str]:
    """Second words of all imports of `sciml.…`."""
    return {module.split(".")[1] for module in imported_modules(source) if module.startswith("sciml.")}


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import sciml.pde.rollout as r", {"pde"}),
        ("from sciml import potentials, graphs", {"potentials", "graphs"}),
        ("def f():\n    from sciml.datasets.structures import x", {"datasets"}),
        ("import sciml\nimport os.path\nfrom . import sibling", set()),
    ],
)
def test_imported_parts_sees_every_form_of_import(source, parts):
    assert imported_parts(source) == parts


def test_imports_point_inwards():
    wrong = [
        f"{path.relative_to(ROOT)} imports sciml.{part}"
        for folder in package_folders().values()
        for path in sorted(folder.glob("*.py"))
        for part in sorted(imported_parts(path.read_text()) & FORBIDDEN[part_of(path)])
    ]
    assert wrong == []


@pytest.mark.parametrize("part", PARTS)
def test_ruff_bans_the_bare_names(part):
    for code in (f"import {part}\n", f"from {part}.x import y\n"):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "sciml/snippet.py", "-"],
            cwd=ROOT, input=code, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"import sciml.{part}" in done.stdout


# --- the cost of importing --------------------------------------------------------------------------------------------


def test_import_sciml_is_fast():
    code = "import time; t = time.perf_counter(); import sciml; print(time.perf_counter() - t)"
    assert statistics.median(float(python(code)) for _ in range(5)) < 0.3


def test_import_sciml_and_its_command_line_import_nothing_heavy():
    loaded = python("import sciml, sciml.cli, sys; print(*(name.split('.')[0] for name in sys.modules))").split()
    assert sorted(set(HEAVY) & set(loaded)) == []


# --- the wheel --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """A wheel that was built from an unpacked sdist, so that it holds what users of either get."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import setuptools.build_meta as backend; backend.build_{}({!r})"
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "sciml", *PARTS):
        (source / name).symlink_to(ROOT / name)
    python(build.format("sdist", str(folder)), cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    python(build.format("wheel", str(folder)), cwd=folder / sdist.name.removesuffix(".tar.gz"))
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_file_of_every_package(wheel):
    expected = {
        f"{name.replace('.', '/')}/{path.name}"
        for name, folder in package_folders().items()
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".pyc", ".so")
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert sorted(expected - held) == []
    assert "sciml/py.typed" in held
    assert {name.split("/")[0] for name in held} == {"sciml", f"sciml_suite-{PROJECT['project']['version']}.dist-info"}


def test_wheel_imports_and_passes_its_doctests_in_an_empty_directory(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    code = f"""
import doctest, importlib, pathlib, sys
sys.path = [p for p in sys.path if p != {str(ROOT)!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import torch
installed = pathlib.Path({str(installed)!r})
examples = 0
for path in sorted(installed.glob("sciml/**/*.py")):
    name = ".".join(path.relative_to(installed).with_suffix("").parts).removesuffix(".__init__")
    if path.stem == "__main__":
        continue
    module = importlib.import_module(name)
    assert module.__file__ == str(path), (name, module.__file__)
    failed, number = doctest.testmod(module)
    assert failed == 0, name
    examples += number
assert examples > 0
assert torch.get_default_dtype() == torch.float32
assert torch.get_default_device() == torch.device("cpu")
import sciml
print(sciml.__version__)
"""
    assert python(code, cwd=empty, path=installed).strip() == PROJECT["project"]["version"]


# --- the text of the files --------------------------------------------------------------------------------------------


def text_files() -> list[Path]:
    folders = [ROOT / name for name in ("sciml", *PARTS, "tests", "examples", ".ci")]
    inner = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    outer = [
        path for path in ROOT.iterdir() if path.suffix in (".toml", ".md", ".txt", ".cff") or path.name == "Makefile"
    ]
    kinds = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".ipynb", ""}
    return [path for path in inner + outer if path.suffix in kinds and "__pycache__" not in path.parts]


def test_no_file_is_longer_than_500_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in text_files() if path.suffix == ".py"}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 500} == {}


def test_no_file_names_a_folder_of_somebodys_machine():
    absolute = re.compile(r"(?<![\w.:/])/(?:home|root|work|opt|Users|mnt|tmp)/\w")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in text_files()
        for match in absolute.finditer(path.read_text())
    ]
    assert found == []


def test_version_and_citation_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in citation
    assert python("import sciml; print(sciml.__version__)").strip() == version
    assert version in (ROOT / "CHANGELOG.md").read_text()


def distribution(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0].lower()


def test_dependencies_are_what_is_imported():
    names = {
        name.split(".")[0]
        for folder in package_folders().values()
        for path in folder.glob("*.py")
        for name in imported_modules(path.read_text())
    }
    owners = metadata.packages_distributions()
    imported = {name: {owner.lower().replace("_", "-") for owner in owners[name]} for name in names if name in owners}
    needed = {distribution(requirement) for requirement in PROJECT["project"]["dependencies"]}
    extras = {distribution(r) for extra in PROJECT["project"]["optional-dependencies"].values() for r in extra}
    declared = needed | extras | {"sciml-suite"}
    assert {name for name, owner in imported.items() if not owner & declared} == set()
    assert needed - set().union(*imported.values()) == set()


def test_every_dependency_is_pinned():
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [
        requirement for extra in ("label", "dask", "notebook", "test") for requirement in extras[extra]
    ]
    assert {distribution(requirement) for requirement in wanted} <= pinned

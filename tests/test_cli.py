"""The command line: the dispatcher is quick, flags and YAML agree, and mistakes get one readable line."""

import dataclasses
import importlib
import statistics
import subprocess
import sys
import textwrap
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

import sciml
from sciml.cli import main
from sciml.cli.main import JOBS

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Keys:
    """Where labels stand.

    Attributes:
        energy: key of the energy.
    """

    energy: str = "energy"


@dataclass
class Config:
    """A job that does nothing.

    Attributes:
        data: files to read.
        steps: how many steps, at least one.
        model: arguments of the model.
        relax: whether to relax first.
    """

    data: list[str]
    steps: int = 10
    device: Literal["cpu", "cuda"] = "cpu"
    temperatures: list[float] = field(default_factory=lambda: [300.0])
    repeat: tuple[int, int, int] | None = None
    output: str | None = None
    init_from: str | None = None
    index: str = ":"
    model: dict[str, Any] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)
    relax: bool = False

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"got steps={self.steps}; at least one is needed")


@pytest.fixture
def job(monkeypatch):
    """Run the fake job `sciml fake`, whose received configurations are collected in `job.configs`."""
    module = types.ModuleType("fake_job")
    module.Config, module.configs, module.error = Config, [], None

    def run(config):
        module.configs.append(config)
        if module.error is not None:
            raise module.error

    module.run = run
    monkeypatch.setitem(sys.modules, "fake_job", module)
    monkeypatch.setitem(JOBS, "fake", ("fake_job", "do nothing"))
    return module


def config_of(job, *flags: str) -> Config:
    assert main(["fake", *flags]) == 0
    return job.configs[-1]


# --- the dispatcher ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_answers_within_half_a_second(flag):
    def seconds() -> float:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "sciml.cli", flag], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0
        return time.perf_counter() - start

    assert statistics.median(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_answers_without_heavy_imports(flag):
    code = f"import sys; from sciml.cli import main; main([{flag!r}]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not {"torch", "ase", "numpy", "jsonargparse"} & set(done.stderr.split())


def test_help_lists_every_job(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {job} " in text for job in JOBS)
    assert main([]) == 0
    assert capsys.readouterr().out == text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sciml {sciml.__version__}\n"


def test_unknown_job_is_corrected(capsys):
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert "unknown job 'trian'; did you mean train?" in error
    assert main(["xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("name", list(JOBS))
def test_every_job_is_a_config_with_help_and_a_run(name, capsys):
    module = importlib.import_module(JOBS[name][0])
    if hasattr(module, "SYSTEMS"):  # each has flags of its own
        name, (path, _) = f"{name} {next(iter(module.SYSTEMS))}", next(iter(module.SYSTEMS.values()))
        module = importlib.import_module(path)
    assert dataclasses.is_dataclass(module.Config)
    assert callable(module.run)
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert all(f"--{option.name}" in text for option in dataclasses.fields(module.Config))


# --- flags and YAML ---------------------------------------------------------------------------------------------------


def test_defaults(job):
    assert config_of(job, "--data", "a.xyz") == Config(data=["a.xyz"])


def test_flags(job):
    flags = "--steps 3 --device cuda --output runs/x --keys.energy REF_energy --repeat 2 2 1 --temperatures 300 1e3"
    expected = Config(
        data=["a.xyz", "7"],
        steps=3,
        device="cuda",
        output="runs/x",
        keys=Keys("REF_energy"),
        repeat=(2, 2, 1),
        temperatures=[300.0, 1000.0],
    )
    assert config_of(job, *flags.split(), "--data", "a.xyz", "7") == expected


@pytest.mark.parametrize(
    "flags", [["--data", "[a, b]"], ["--data=[a, b]"], ["--data", "a", "b"], ["--data+", "a", "--data+", "b"]]
)
def test_lists_in_every_notation(job, flags):
    assert config_of(job, *flags).data == ["a", "b"]


def test_names_in_a_list_are_taken_literally(job):
    names = ["a b.xyz", "c,d.xyz", "e:[f].xyz", "{g}", "null", "-1.5", "#h", '"i"']
    assert config_of(job, "--data", *names).data == names


def test_negative_numbers_in_a_list(job):
    assert config_of(job, "--data", "a", "--temperatures", "-1.5", "-2").temperatures == [-1.5, -2.0]


@pytest.mark.parametrize("flags", [["--relax"], ["--relax", "true"], ["--relax=true"]])
def test_a_switch_needs_no_value(job, flags):
    assert main(["fake", *flags, "--data", "a"]) == 0
    assert job.configs[0].relax is True
    assert job.configs[0].data == ["a"]


def test_dashes_count_as_underscores(job):
    config = config_of(job, "--data", "a", "--init-from", "runs/my-run", "--model.num-layers", "2")
    assert config.init_from == "runs/my-run"
    assert config.model == {"num_layers": 2}


def test_a_value_may_start_with_a_dash(job):
    assert config_of(job, "--data", "a", "--index", "-5:").index == "-5:"


@pytest.fixture
def yaml(tmp_path):
    path = tmp_path / "fake.yaml"
    path.write_text(
        textwrap.dedent("""
            data: [a.xyz]
            steps: 4
            model:
              channels: 32
              species: [1, 6]
              scale: 1e-3
        """)
    )
    return str(path)


def test_dict_from_yaml_keeps_types(job, yaml):
    assert config_of(job, "--config", yaml).model == {"channels": 32, "species": [1, 6], "scale": 1e-3}


def test_dict_entries_are_flags_and_override_yaml(job, yaml):
    model = config_of(
        job, "--config", yaml, "--model.channels", "64", "--model.name", "cg", "--model.cutoff", "5.5"
    ).model
    assert model == {"channels": 64, "species": [1, 6], "scale": 1e-3, "name": "cg", "cutoff": 5.5}
    assert config_of(job, "--data", "a", "--model.channels", "64").model == {"channels": 64}


def test_flags_override_yaml(job, yaml):
    assert config_of(job, "--config", yaml, "--steps", "9").steps == 9
    assert config_of(job, "--config", yaml, "--data", "b.xyz").data == ["b.xyz"]


def test_printed_configuration_can_be_read_again(job, yaml, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fake", "--config", yaml, "--steps", "5", "--print_config"])
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert config_of(job, "--config", str(again)) == config_of(job, "--config", yaml, "--steps", "5")


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "data"),
        (["--data"], "expected one argument"),
        (["--data", "a", "--stpes", "3"], "unknown flag --stpes; did you mean --steps?"),
        (["--data", "a", "--keys.enrgy", "3"], "unknown flag --keys.enrgy; did you mean --keys.energy?"),
        (["--data", "a", "--keys.lr", "3"], "unknown flag --keys.lr; keys has energy"),
        (["--data", "a", "--steps", "three"], "error: steps: Expected a int. Got value: three"),
        (["--data", "a", "--steps", "0"], "got steps=0; at least one is needed"),
        (["--data", "a", "--device", "tpu"], "tpu"),
        (["--data", "a", "--temperatures", "warm"], "warm"),
        (["--data", "a", "--repeat", "2"], "repeat"),
        (["stray", "--data", "a"], "stray"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_are_one_error_without_a_traceback(job, capsys, flags, message):
    assert main(["fake", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sciml fake: error: ")
    assert message in error
    assert "Traceback" not in error
    assert job.configs == []


def test_unknown_key_in_yaml_is_corrected(job, tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("data: [a]\nstpes: 3\n")
    assert main(["fake", "--config", str(path)]) == 2
    assert "unknown key 'stpes' in the configuration file; did you mean steps?" in capsys.readouterr().err


def test_unknown_key_in_a_group_of_yaml_is_corrected(job, tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("data: [a]\nkeys: {enrgy: a}\n")
    assert main(["fake", "--config", str(path)]) == 2
    message = "unknown key 'keys.enrgy' in the configuration file; did you mean keys.energy?"
    assert message in capsys.readouterr().err


def test_broken_yaml_is_located(job, tmp_path, capsys):
    path = tmp_path / "broken.yaml"
    path.write_text("data: [a\n")
    assert main(["fake", "--config", str(path)]) == 2
    assert "line 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("no element Xx"), FileNotFoundError("no file x"), PermissionError("not yours")]
)
def test_errors_of_the_user_end_in_one_line(job, capsys, monkeypatch, error):
    monkeypatch.delenv("SCIML_TRACEBACK", raising=False)
    job.error = error
    assert main(["fake", "--data", "a"]) == 2
    assert capsys.readouterr().err == f"sciml fake: error: {error}\n"
    monkeypatch.setenv("SCIML_TRACEBACK", "1")
    with pytest.raises(type(error), match=str(error)):
        main(["fake", "--data", "a"])


def test_defects_keep_their_traceback(job):
    job.error = TypeError("a defect")
    with pytest.raises(TypeError, match="a defect"):
        main(["fake", "--data", "a"])


def test_interruption_is_quiet(job, capsys):
    job.error = KeyboardInterrupt()
    assert main(["fake", "--data", "a"]) == 130
    assert capsys.readouterr().err == "sciml fake: interrupted\n"

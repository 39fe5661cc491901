"""The configurations that come with the package: each is taken as it is, and its model can be built."""

from pathlib import Path

import pytest

from sciml.cli.arguments import parse_config
from sciml.cli.train import Config
from sciml.potentials import MODELS, build_potential

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_taken_and_its_model_can_be_built(path):
    config = parse_config(Config, ["--config", str(path)], program="sciml train", description="")
    assert config.output == f"runs/{path.stem}"
    assert all(name.startswith("$SCIML_DATA/") for name in [*config.train, *(config.valid or [])])
    arguments = dict(config.model)
    assert arguments["name"] in MODELS
    build_potential(arguments.pop("name"), {"species": [1, 6, 8], **arguments})


def test_there_are_some():
    assert len(CONFIGS) >= 4

"""The configurations that come with the package: each is taken as it is, and its model can be built."""

from pathlib import Path

import pytest

from sciml.cli import train, train_fields
from sciml.cli.arguments import parse_config
from sciml.cli.other_job import of_surrogates
from sciml.pde.checkpoint import NETWORKS, build_network
from sciml.potentials import MODELS, build_potential

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_taken_and_its_model_can_be_built(path):
    arguments = ["--config", str(path)]
    fields = of_surrogates(arguments, "model.name")
    job = train_fields if fields else train
    config = parse_config(job.Config, arguments, program="sciml train", description="")
    assert config.output == f"runs/{path.stem}"
    assert all(name.startswith("$SCIML_DATA/") for name in [*config.train, *(config.valid or [])])
    model = dict(config.model)
    if fields:
        assert path.stem.startswith("pde_")
        assert model["name"] in NETWORKS
        build_network(model.pop("name"), {"channels_in": 3 * config.history, "channels_out": 3, **model})
    else:
        assert model["name"] in MODELS
        build_potential(model.pop("name"), {"species": [1, 6, 8], **model})


def test_there_are_some():
    assert len(CONFIGS) >= 4

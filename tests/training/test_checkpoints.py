import pytest
import torch

from sciml.training.checkpoints import check_fingerprint, load_training_state, save_training_state


def test_state_round_trip_without_pickled_code(tmp_path):
    path = tmp_path / "training_state.pt"
    assert load_training_state(path) is None
    state = {"model": {"w": torch.randn(3)}, "rows": [{"epoch": 1, "loss": 0.5}], "betas": (0.9, 0.99)}
    save_training_state(path, state)
    loaded = load_training_state(path)
    assert torch.equal(loaded.pop("model")["w"], state.pop("model")["w"])
    assert loaded == state


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "training_state.pt"
    torch.save({"format_version": 0}, path)
    with pytest.raises(ValueError, match="new output folder"):
        load_training_state(path)


def test_each_differing_setting_is_named(tmp_path):
    check_fingerprint({"a": 1}, {"a": 1}, folder=tmp_path)
    with pytest.raises(ValueError, match=r"other settings") as error:
        check_fingerprint({"a": 1, "lr": 0.1, "old": 3}, {"a": 1, "lr": 0.2, "new": 4}, folder=tmp_path)
    message = str(error.value)
    assert "lr: 0.1 then, 0.2 now" in message
    assert "old: 3 then, (absent) now" in message
    assert "new" in message
    assert "--init_from" in message
    assert "  a:" not in message

from sciml.messages import did_you_mean, differing_settings


def test_the_nearest_word_is_proposed_or_none():
    assert did_you_mean("chanels", ["lmax", "channels"]) == "; did you mean channels?"
    assert did_you_mean("stpes", ["steps"], prefix="--") == "; did you mean --steps?"
    assert did_you_mean("xyz", ["lmax", "channels"]) == ""


def test_each_differing_setting_has_a_line():
    saved = {"same": 1, "rate": 0.1, "old": None, "long": "a" * 100}
    lines = differing_settings(saved, {"same": 1, "rate": 0.2, "new": None, "long": "b" * 100})
    assert lines[:2] == ["rate: 0.1 then, 0.2 now", "old: None then, (absent) now"]
    assert lines[2] == f"long: '{'a' * 56}... then, '{'b' * 56}... now"
    assert lines[3] == "new: (absent) then, None now"
    assert "a" * 100 in differing_settings(saved, {}, longest=200)[3]

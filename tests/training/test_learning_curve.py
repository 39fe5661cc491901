import math

from PIL import Image

from sciml.training.learning_curve import plot_learning_curve, write_metrics

ROWS = [
    {"epoch": e, "train_loss": 1 / e, "valid_loss": 2 / e, "valid_x_mae": 0.3 / e, "valid_x_rmse": math.nan}
    for e in range(1, 6)
]


def test_metrics_read_back_exactly_and_missing_values_are_empty(tmp_path):
    write_metrics(tmp_path / "metrics.csv", ROWS, ["epoch", "valid_x_mae", "valid_x_rmse"])
    header, *lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "epoch,valid_x_mae,valid_x_rmse"
    for row, line in zip(ROWS, lines, strict=True):
        epoch, mae, rmse = line.split(",")
        assert (int(epoch), float(mae), rmse) == (row["epoch"], row["valid_x_mae"], "")


def test_plot_draws_every_finite_curve(tmp_path):
    plot_learning_curve(tmp_path / "curve.png", ROWS, targets=["x"], units=["eV"])
    plot_learning_curve(tmp_path / "one.png", ROWS[:1], targets=["x"], units=["eV"])
    image = Image.open(tmp_path / "curve.png").convert("RGB")
    colours = {colour for _, colour in image.getcolors(maxcolors=1_000_000)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours

"""``mlsim sample``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mlsim.cli.analysis import sample as group
from mlsim.errors import InputError, SettingsError

app = typer.Typer()
group.register(app)
app.command("nothing")(lambda: None)
runner = CliRunner()


def test_scores_stand_beside_the_floor_and_particles_are_written(tmp_path: Path) -> None:
    out = tmp_path / "c4.npz"
    result = runner.invoke(
        app,
        ["sample", "c4", "--sampler", "mala", "--particles", "20", "--gradients", "30", "--seed", "4", "-o", str(out)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "iid floor" in result.output
    assert "seed 4" in result.output
    with np.load(out) as data:
        assert data["positions"].shape == (20, 2)
        assert data["log_density"].shape == (20,)
        record = json.loads(str(data["record"]))
    assert record["settings"]["method"] == "mala"
    assert set(record["floor"]) == set(record["scores"])


def test_same_seed_same_scores() -> None:
    arguments = ["sample", "circles", "--sampler", "esvgd", "--particles", "8", "--gradients", "20", "--seed", "3"]
    first, second = (runner.invoke(app, arguments, catch_exceptions=False).output.splitlines()[1:] for _ in range(2))
    assert first == second


def test_a_run_stops_at_a_plateau_and_keeps_the_particles_thinning_chooses(tmp_path: Path) -> None:
    out = tmp_path / "c4.npz"
    arguments = ["sample", "c4", "--particles", "30", "--gradients", "2000", "--seed", "4", "--stop", "ksd"]
    result = runner.invoke(app, [*arguments, "--thin", "10", "-o", str(out)], catch_exceptions=False)
    assert "stopped by discrepancy plateau" in result.output
    line = next(line for line in result.output.splitlines() if line.startswith("Stein discrepancy"))
    kept, first = float(line.split()[5]), float(line.split()[10])
    assert kept < first
    with np.load(out) as data:
        assert data["positions"].shape == (10, 2)
        assert len(np.unique(data["positions"], axis=0)) == 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["dw5"], InputError, "expected one of"),
        (["c4", "--sampler", "malla"], SettingsError, "malla"),
        (["c4", "--bandwidth", "wide"], SettingsError, "bandwidth"),
        (["c4", "--kernel", "pullback", "--gradients", "5"], InputError, "pull-back"),
        (["c4", "-o", "c4.txt"], InputError, ".npz"),
        (["c4", "--stop", "soon"], InputError, "'budget' or 'ksd'"),
        (["c4", "--particles", "5", "--thin", "6"], InputError, "at most the 5"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        runner.invoke(app, ["sample", *arguments], catch_exceptions=False)

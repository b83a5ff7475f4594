"""``mlsim design`` from the command line: free and simulated rewards, stop, resume, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("transformers")

from mlsim.chem.catalog import load_system
from mlsim.cli.main import app
from mlsim.errors import InputError, MlsimError, OccupiedError
from mlsim.md.signals import StopRequest
from mlsim.workflow.design.design_settings import PropertySettings
from mlsim.workflow.design.peptide_property import (
    InterruptedSearch,
    SimulatedProperty,
    capped,
    per_frame,
)

FREE = ["design", "--letters", "AEKL", "--length", "6", "--charge", "1:2", "--seed", "3", "--calls", "90"]


def invoke(*words: str) -> str:
    """Run the verb; its own errors come through."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_a_search_writes_the_best_sequences_it_evaluated(tmp_path: Path) -> None:
    place = tmp_path / "search"
    out = invoke(*FREE, "--count", "5", "-o", str(place))
    rows = (place / "designs.csv").read_text().splitlines()
    assert rows[0] == "sequence,reward,log_probability,charge_e,moment"
    assert len(rows) == 6
    for row in rows[1:]:
        sequence, reward, _, charge, _ = row.split(",")
        assert int(charge) == sequence.count("K") - sequence.count("E")
        assert float(reward) == max(0.0, 100.0 - 25.0 * max(1 - int(charge), int(charge) - 2, 0))
    summary = json.loads((place / "design.json").read_text())
    assert summary["calls"] == 90
    assert "90 sequences evaluated" in out


def test_a_search_that_is_prolonged_equals_one_that_ran_through(tmp_path: Path) -> None:
    invoke(*FREE, "-o", str(tmp_path / "whole"))
    invoke(*FREE[:-1], "40", "-o", str(tmp_path / "parts"))
    invoke("design", "--resume", "--calls", "90", "-o", str(tmp_path / "parts"))
    tables = [(tmp_path / name / "designs.csv").read_text().splitlines() for name in ("whole", "parts")]
    # the first 40 are the same; the last batch before the stop was cut short, so the rest may differ
    known = [json.loads((tmp_path / name / "design.json").read_text())["calls"] for name in ("whole", "parts")]
    assert known == [90, 90]
    assert len(tables[0]) == len(tables[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["design", "--charge", "1"], "output directory"),
        (["design", "-o", "X"], "nothing is asked for"),
        (["design", "--charge", "1:2:3", "-o", "X"], "LOW:HIGH"),
        (["design", "--simulate", "rg", "-o", "X"], "'worst'"),
        (["design", "--charge", "1", "--ps", "5", "-o", "X"], "add --simulate"),
        (["design", "--motif", "WWW", "--letters", "AEK", "-o", "X"], "cannot be written"),
        (["design", "--charge", "1", "--letters", "AEB", "-o", "X"], "letters"),
        (["design", "--resume", "-o", "X"], "no run to resume"),
    ],
)
def test_a_refused_search_leaves_nothing_behind(tmp_path: Path, words: list[str], message: str) -> None:
    place = tmp_path / "refused"
    with pytest.raises(MlsimError, match=message):
        invoke(*[str(place) if w == "X" else w for w in words])
    assert not place.exists()


def test_an_occupied_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OccupiedError, match="not empty"):
        invoke(*FREE, "-o", str(tmp_path))


def test_a_simulated_property_is_kept_and_depends_on_the_sequence_alone(tmp_path: Path) -> None:
    settings = PropertySettings(property="rg", solvent="vacuum", ps=0.4, report_ps=0.1, platform="Reference")
    first = SimulatedProperty(settings, tmp_path / "a")
    values = first(["GA", "AG"])
    assert 0.1 < min(values) < max(values) < 1.0
    again = SimulatedProperty(settings, tmp_path / "a")
    again._simulate = lambda sequence: pytest.fail("known values are not simulated again")  # type: ignore[method-assign]
    assert again(["AG", "GA"]) == values[::-1]
    assert SimulatedProperty(settings, tmp_path / "b")(["AG"]) == [values[1]]
    with pytest.raises(InputError, match="other settings"):
        SimulatedProperty(settings.model_copy(update={"ps": 1.0}), tmp_path / "a")
    path = tmp_path / "a" / "properties.jsonl"
    path.write_text(path.read_text() + '{"sequence": "A')
    assert set(SimulatedProperty(settings, tmp_path / "a").known) == {"GA", "AG"}


def test_a_stop_request_ends_the_simulations(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.ask("SIGTERM", 143)
    settings = PropertySettings(solvent="vacuum", ps=1.0, platform="Reference")
    with pytest.raises(InterruptedSearch, match="SIGTERM"):
        SimulatedProperty(settings, tmp_path, stop)(["AG"])


def test_helicity_counts_residues_near_the_helix() -> None:
    molecule = load_system("alanine-dipeptide")
    import mdtraj

    topology = mdtraj.Topology.from_openmm(molecule.topology)
    helical = per_frame("helicity", np.asarray(molecule.positions)[None], topology)
    angles = per_frame("rg", np.asarray(molecule.positions)[None], topology)
    assert helical.shape == angles.shape == (1,)
    assert helical[0] in (0.0, 1.0)


def test_sequences_get_caps_and_unknown_letters_are_refused() -> None:
    assert capped("AK") == "ACE-ALA-LYS-NME"
    with pytest.raises(InputError, match="'B'"):
        capped("AB")

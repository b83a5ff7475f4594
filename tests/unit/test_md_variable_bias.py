"""Bias on collective variables of choice: the values of analysis, the force, hills, ranges, runs and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from openmm import Context, Platform, System
from typer.testing import CliRunner

from mlsim.analysis import observables
from mlsim.analysis.biased import FrameBias, frame_bias, pooled_log_weights
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.cli.main import app
from mlsim.errors import InputError, SettingsError
from mlsim.md.engines.shared import why_not
from mlsim.md.integrator import verlet
from mlsim.md.settings import ReferenceSettings, RunSettings
from mlsim.potentials.biases.grid_bias import GridBias, Tempering
from mlsim.potentials.biases.variable_bias import VariableBias
from mlsim.potentials.dihedral_bias import DihedralBias, load_grid
from mlsim.runs.bias_file import FILE, SavedBias
from mlsim.runs.coordinate import CIRCLE, Axis, Coordinate
from mlsim.runs.trajectory import Replica
from mlsim.workflow.simulation.biases_by_name import bias_for
from mlsim.workflow.simulation.run import run
from mlsim.workflow.simulation.second_stage import FIXED, run_stages

ENDS = "distance:1.CH3,3.C"
SHORT = {
    **{"solvent": "vacuum", "ns": 2e-4, "report_ps": 0.02, "timestep_fs": 2, "platform": "Reference", "seed": 3},
    **{"equilibration_ps": 0, "bias": "metadynamics", "hill_every_ps": 0.02, "hill_height_kJ_mol": 2.0},
}


def topology_of(molecule: Molecule) -> mdtraj.Topology:
    return mdtraj.Topology.from_openmm(molecule.topology)


def of(molecule: Molecule, *names: str) -> tuple[Coordinate, ...]:
    return observables.coordinates(topology_of(molecule), names)


def context_of(bias: GridBias, molecule: Molecule) -> Context:
    system = System()
    for mass in molecule.masses:
        system.addParticle(mass)
    bias.add_to(system)
    context = Context(system, verlet(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(molecule.positions)
    return context


@pytest.mark.parametrize("names", [("phi",), ("psi",), (ENDS,), ("psi", ENDS)])
def test_a_bias_sees_the_values_of_the_analysis(ala2: Molecule, names: tuple[str, ...]) -> None:
    values = VariableBias(ala2, of(ala2, *names), 300.0).values(ala2.positions)
    np.testing.assert_allclose(values, observables.evaluate(ala2.positions[None], topology_of(ala2), names), atol=1e-5)


def test_end_to_end_of_a_longer_chain() -> None:
    ala3 = build("ACE-ALA-ALA-NME")
    (coordinate,) = of(ala3, "end-to-end")
    value = VariableBias(ala3, [coordinate], 300.0).values(ala3.positions)[0, 0]
    assert value == pytest.approx(observables.evaluate(ala3.positions[None], topology_of(ala3), ("end-to-end",))[0, 0])
    assert value < coordinate.axis.high


@pytest.mark.parametrize("axes", ["length", "angle and length"])
def test_energy_and_force_are_those_of_the_grid(ala2: Molecule, axes: str) -> None:
    """Also where an angle crosses its seam beside a variable that is not periodic."""
    length = of(ala2, ENDS)[0]
    coordinates = [length] if axes == "length" else [of(ala2, "psi")[0], length]
    shape = [60, 80][-len(coordinates) :]
    points = [c.axis.points(n) for c, n in zip(coordinates, shape, strict=True)]
    grid = np.sin(5.0 * points[-1]) * 3.0
    if len(points) == 2:
        grid = np.add.outer(2.0 * np.cos(points[0]), grid)
    bias = VariableBias(ala2, coordinates, 300.0, grid)
    context = context_of(bias, ala2)
    rng = np.random.default_rng(5)
    for _ in range(6):
        context.setPositions(ala2.positions + 0.03 * rng.normal(size=ala2.positions.shape))
        state = context.getState(getPositions=True, getForces=True)
        x, force = (state.getPositions(asNumpy=True)._value, state.getForces(asNumpy=True)._value)
        values = bias.values(x)[0]
        expected = 3.0 * np.sin(5.0 * values[-1]) + (2.0 * np.cos(values[0]) if len(values) == 2 else 0.0)
        assert bias.energy(context) == pytest.approx(expected, abs=2e-3)
        away = 1e-4 * rng.normal(size=x.shape)
        ends = []
        for sign in (1, -1):
            context.setPositions(x + sign * away)
            ends.append(bias.energy(context))
        assert ends[0] - ends[1] == pytest.approx(-2.0 * float((force * away).sum()), rel=1e-3, abs=1e-7)


def test_on_phi_and_psi_it_is_the_bias_on_the_backbone_torsions(ala2: Molecule) -> None:
    axis = CIRCLE.points(72)
    grid = np.add.outer(4.0 * np.cos(axis - 0.3), 3.0 * np.sin(2.0 * axis)) + np.outer(np.sin(axis), np.cos(axis))
    found = []
    for bias in (VariableBias(ala2, of(ala2, "phi", "psi"), 300.0, grid), DihedralBias(ala2, 300.0, grid[None])):
        state = context_of(bias, ala2).getState(getEnergy=True, getForces=True)
        found.append((state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


def test_runs_with_biases_on_different_variables_are_not_pooled() -> None:
    grid = np.zeros((1, 40))
    parts = [
        FrameBias(np.ones(3), np.zeros(3), SavedBias(grid, (name,), False, None, (name,), (CIRCLE,)), np.zeros((3, 1)))
        for name in ("phi", "psi")
    ]
    with pytest.raises(InputError, match="biases on phi and psi cannot be pooled"):
        pooled_log_weights(parts, np.repeat([0, 1], 3), 300.0)


def test_the_seam_of_an_angle_beside_a_length_is_no_edge(ala2: Molecule) -> None:
    names = [f"{r}-{a}" for r, a in zip(ala2.residue_names, ala2.atom_names, strict=True)]
    four = tuple((names.index(name),) for name in ("ACE-CH3", "ACE-C", "ALA-N", "ALA-CA"))
    atoms = Coordinate("omega", "dihedral(g1, g2, g3, g4)", four, CIRCLE, 0.35)  # near pi, on both sides of the seam
    length = of(ala2, ENDS)[0]
    grid = np.add.outer(3.0 * np.cos(atoms.axis.points(48) - 0.4), np.zeros(40))
    bias = VariableBias(ala2, [atoms, length], 300.0, grid)
    context = context_of(bias, ala2)
    rng, seen = np.random.default_rng(1), []
    for _ in range(40):
        context.setPositions(ala2.positions + 0.004 * rng.normal(size=ala2.positions.shape))
        x = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        seen.append(bias.values(x)[0, 0])
        assert bias.energy(context) == pytest.approx(3.0 * np.cos(seen[-1] - 0.4), abs=2e-3)
    assert min(seen) < -3.0
    assert max(seen) > 3.0


def test_a_hill_has_its_height_and_width_and_none_is_put_outside_the_range(ala2: Molecule) -> None:
    (coordinate,) = of(ala2, ENDS)
    here = VariableBias(ala2, [coordinate], 300.0).values(ala2.positions)[0, 0]
    bias = VariableBias(ala2, [coordinate], 300.0, tempering=Tempering(height_kJ_mol=2.0))
    context = context_of(bias, ala2)
    bias.observe(500, context)
    assert bias.energy(context) == pytest.approx(2.0, abs=5e-3)
    points = bias.axes[0].points(bias.grid.shape[1])
    expected = 2.0 * np.exp(-0.5 * ((points - here) / coordinate.width) ** 2)
    np.testing.assert_allclose(bias.grid[0], expected, atol=1e-12)
    narrow = replace(coordinate, axis=Axis(0.0, 0.9 * here, False))
    beyond = VariableBias(ala2, [narrow], 300.0, 5.0 * np.linspace(0.0, 1.0, 30), Tempering())
    context = context_of(beyond, ala2)
    assert beyond.energy(context) == pytest.approx(5.0, abs=1e-6)  # constant past its end
    assert not context.getState(getForces=True).getForces(asNumpy=True)._value.any()
    beyond.observe(500, context)
    assert beyond.history is not None
    assert beyond.history.height.tolist() == [[0.0]]


def test_a_run_is_resumed_bit_for_bit_and_its_second_stage_logs_the_finished_bias(
    ala2: Molecule, tmp_path: Path
) -> None:
    settings = RunSettings.parse({**SHORT, "bias_cv": ("psi", ENDS)})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(settings, whole)
    run(settings.model_copy(update={"ns": 1e-4}), cut)
    run_stages(settings.model_copy(update={"then_fixed_ns": 1e-4}), cut, "resume")
    np.testing.assert_array_equal(Replica(whole).positions(), Replica(cut).positions())
    saved = SavedBias.load(cut / FILE)
    np.testing.assert_array_equal(saved.grid, SavedBias.load(whole / FILE).grid)
    assert saved.variables == ("psi", ENDS)
    assert saved.history is not None
    assert len(saved.history.step) == 10
    fixed = Replica(cut / FIXED)
    part = frame_bias(fixed, np.ones(fixed.n_frames, dtype=bool), fixed.positions())
    assert part.bias.max() > 1.0
    np.testing.assert_allclose(part.at_end(), part.bias, atol=0.1)  # the file has positions to 0.001 nm
    grown = Replica(cut)
    part = frame_bias(grown, np.ones(grown.n_frames, dtype=bool), grown.positions())
    assert part.offset[-1] > 0.0


def test_the_commands_know_it(tmp_path: Path) -> None:
    asked = ["run", "alanine-dipeptide", "--solvent", "vacuum", "--ns", "1e-4", "--report-ps", "0.02", "--seed", "1"]
    bias = ["--bias", "metadynamics", "--bias-cv", ENDS, "--hill-widths", "0.1", "--hill-every-ps", "0.02"]
    done = CliRunner().invoke(app, [*asked, *bias, "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert SavedBias.load(tmp_path / "run" / FILE).variables == (ENDS,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bias": "none"}, "no bias to act on it"),
        ({"hill_widths": (0.1, 0.2)}, "one for each of 1 bias_cv"),
        ({"hill_widths": (-0.1,)}, "above 0"),
        ({"bias_cv": ("phi", "psi", ENDS)}, "at most 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RunSettings.parse({**SHORT, "bias_cv": (ENDS,), **values})


def test_what_no_bias_can_act_on_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    for name, message in (("rg", "no bias can act on it"), ("end-to-end", "two CA atoms"), ("psj", "did you mean")):
        with pytest.raises(InputError, match=message):
            bias_for(ala2, RunSettings.parse({**SHORT, "bias_cv": (name,)}))
    settings = RunSettings.parse({**SHORT, "bias_cv": (ENDS,)})
    assert why_not(settings.model_copy(update={"bias": "x.npz"}), ala2) == (
        "a bias on collective variables of choice acts on one molecule"
    )
    made = bias_for(ala2, settings)
    assert made is not None
    made.save(tmp_path / "bias.npz")
    with pytest.raises(InputError, match="expected one on the backbone torsions"):
        load_grid(tmp_path / "bias.npz")
    other = RunSettings.parse({**SHORT, "bias": str(tmp_path / "bias.npz"), "bias_cv": ("psi",)})
    with pytest.raises(InputError, match="leave bias_cv away"):
        bias_for(ala2, other)
    taken = bias_for(ala2, other.model_copy(update={"bias_cv": ()}))
    assert isinstance(taken, VariableBias)
    assert taken.interval == 0
    with pytest.raises(SettingsError, match="engine gromacs: a bias_cv"):
        ReferenceSettings.parse({"ns": 1.0, "engine": "gromacs", "bias_cv": (ENDS,)})


def test_a_formula_that_cannot_be_read_is_one_line(ala2: Molecule) -> None:
    wrong = Coordinate("odd", "distence(g1, g2)", ((0,), (1,)), CIRCLE, 0.3)
    with pytest.raises(InputError, match="bias on odd: its formula cannot be used"):
        VariableBias(ala2, [wrong], 300.0)

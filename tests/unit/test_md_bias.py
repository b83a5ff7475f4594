"""Bias on the backbone torsions: force, growth, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openmm import Context, Platform, System

from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals
from mlsim.errors import InputError, MissingError
from mlsim.md.integrator import verlet
from mlsim.md.prepare import bias_for
from mlsim.md.settings import RunSettings
from mlsim.potentials.dihedral_bias import GRID_POINTS, DihedralBias, Tempering, load_grid, offset_of
from mlsim.runs.bias_file import SavedBias
from mlsim.units import kT


def smooth_grid(molecule: Molecule, points: int = GRID_POINTS) -> np.ndarray:
    axis = -np.pi + 2 * np.pi * np.arange(points) / points
    phi, psi = np.meshgrid(axis, axis, indexing="ij")
    return (3.0 * np.cos(phi - 0.5) + 2.0 * np.sin(2 * psi) * np.cos(phi))[None]


def exact(phi: float, psi: float) -> float:
    return 3.0 * np.cos(phi - 0.5) + 2.0 * np.sin(2 * psi) * np.cos(phi)


def context_of(bias: DihedralBias, molecule: Molecule) -> Context:
    system = System()
    for mass in molecule.masses:
        system.addParticle(mass)
    bias.add_to(system)
    context = Context(system, verlet(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(molecule.positions)
    return context


@settings(max_examples=10, deadline=None)
@given(phi=st.floats(-3.1, 3.1), psi=st.floats(-3.1, 3.1))
def test_energy_is_the_spline_of_the_grid_with_phi_and_psi_in_their_places(
    ala2: Molecule, phi: float, psi: float
) -> None:
    bias = DihedralBias(ala2, 300.0, smooth_grid(ala2))
    turned = turn(ala2, phi, psi)
    context = context_of(bias, ala2)
    context.setPositions(turned)
    angles = bias.angles(turned)[0]
    np.testing.assert_allclose(angles, [phi, psi], atol=1e-9)
    assert bias.energy(context) == pytest.approx(exact(phi, psi), abs=2e-4)


def turn(molecule: Molecule, phi: float, psi: float) -> np.ndarray:
    """Positions with the two torsions of ALA2 set by rotating what follows the axis."""
    x = molecule.positions.copy()
    names = [f"{r}-{a}" for r, a in zip(molecule.residue_names, molecule.atom_names, strict=True)]
    where = {n: k for k, n in enumerate(names)}
    n, ca, c = where["ALA-N"], where["ALA-CA"], where["ALA-C"]
    after_phi = list(range(ca + 1, molecule.n_atoms))
    after_psi = [where["ALA-O"], *range(where["NME-N"], molecule.n_atoms)]
    quadruples = {"phi": np.array([[where["ACE-C"], n, ca, c]]), "psi": np.array([[n, ca, c, where["NME-N"]]])}
    for name, target, (a, b), moved in (("phi", phi, (n, ca), after_phi), ("psi", psi, (ca, c), after_psi)):
        angle = target - dihedrals(x, quadruples[name])[0]
        axis = (x[b] - x[a]) / np.linalg.norm(x[b] - x[a])
        y = x[moved] - x[b]
        x[moved] = (
            x[b]
            + y * np.cos(angle)
            + np.cross(axis, y) * np.sin(angle)
            + np.outer(y @ axis, axis) * (1 - np.cos(angle))
        )
    return x


def test_first_hill_has_its_height_and_width_and_is_periodic(ala2: Molecule) -> None:
    bias = DihedralBias(ala2, 300.0, tempering=Tempering(height_kJ_mol=2.0, width_rad=0.3))
    context = context_of(bias, ala2)
    near_edge = turn(ala2, np.pi - 0.02, 0.0)
    context.setPositions(near_edge)
    bias.observe(500, context)
    assert bias.energy(context) == pytest.approx(2.0, abs=1e-3)
    for shift in (0.3, -0.3):
        context.setPositions(turn(ala2, np.pi - 0.02 + shift, 0.0))
        assert bias.energy(context) == pytest.approx(2.0 * np.exp(-0.5), abs=2e-3)


def test_hills_shrink_as_well_tempered_metadynamics_says(ala2: Molecule) -> None:
    growth = Tempering(height_kJ_mol=1.0, bias_factor=6.0)
    bias = DihedralBias(ala2, 300.0, tempering=growth)
    context = context_of(bias, ala2)
    context.setPositions(turn(ala2, -1.0, 1.0))  # not a grid point: the height is interpolated
    expected = 0.0
    for _ in range(40):
        bias.observe(500, context)
        expected += np.exp(-expected / (kT(300.0) * 5.0))
    assert bias.energy(context) == pytest.approx(expected, rel=2e-2)  # the scale is bilinear between grid points


def test_the_history_holds_every_hill_and_the_constant_after_it_also_over_a_restart(
    ala2: Molecule, tmp_path: Path
) -> None:
    def grown(cut: int) -> DihedralBias:
        bias = DihedralBias(ala2, 300.0, tempering=Tempering(height_kJ_mol=1.0, bias_factor=6.0))
        context = context_of(bias, ala2)
        for step in range(500, 3_001, 500):
            if step == cut:
                saved = {name: array.copy() for name, array in bias.state().items()}
                bias = DihedralBias(ala2, 300.0, tempering=bias.tempering)
                context = context_of(bias, ala2)
                bias.restore(saved, context)
            context.setPositions(turn(ala2, 1e-3 * step - 2.0, 1.0))
            bias.observe(step, context)
        return bias

    whole, resumed = grown(0), grown(2_000)
    assert whole.history is not None
    assert resumed.history is not None
    for name, array in whole.history.arrays().items():
        np.testing.assert_array_equal(array, resumed.history.arrays()[name])
    resumed.save(tmp_path / "bias.npz")
    found = SavedBias.load(tmp_path / "bias.npz")
    assert found.grown
    assert found.history is not None
    assert found.history.step.tolist() == [500, 1_000, 1_500, 2_000, 2_500, 3_000]
    assert found.history.offset[-1] == pytest.approx(offset_of(found.grid, 6.0, 300.0))
    assert (np.diff(found.history.offset) > 0.0).all()
    offset, own = found.history.before(np.array([250, 500, 750, 3_000, 4_000]))
    np.testing.assert_allclose(offset, [0.0, 0.0, *found.history.offset[[0, 4, 5]]])
    np.testing.assert_allclose(own, [0.0, 1.0, 0.0, found.history.height[5, 0], 0.0])


def test_the_constant_of_a_flat_and_of_a_deep_bias() -> None:
    assert offset_of(np.full((1, 24, 24), 7.0), 6.0, 300.0) == pytest.approx(7.0)  # a constant is taken out whole
    assert offset_of(np.full((3, 24, 24), 7.0), 6.0, 300.0) == pytest.approx(21.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"grid": np.zeros((1, 8, 8))}, "it has no 'residues'"),
        ({"grid": np.zeros((2, 8, 8))}, "it has no 'residues'"),
        ({"grid": np.zeros((1, 1, 1)), "residues": ["ALA2"], "bias_factor": 6.0}, "G >= 4"),
        ({"grid": np.full((1, 8, 8), np.nan), "residues": ["ALA2"], "bias_factor": 6.0}, "not finite"),
        (
            {
                **{"grid": np.zeros((1, 8, 8)), "residues": ["ALA2"], "bias_factor": 6.0},
                **{"hill_step": [500, 500], "hill_height": np.ones((2, 1)), "offset": np.ones(2)},
            },
            "rising steps",
        ),
    ],
)
def test_a_damaged_bias_file_is_one_clear_error(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bias.npz", **arrays)
    with pytest.raises(InputError, match=message):
        SavedBias.load(tmp_path / "bias.npz")
    (tmp_path / "bias.npz").write_bytes(b"")
    with pytest.raises(InputError, match="not a bias file"):
        SavedBias.load(tmp_path / "bias.npz")


def test_a_saved_bias_comes_back_the_same(ala2: Molecule, tmp_path: Path) -> None:
    bias = DihedralBias(ala2, 300.0, smooth_grid(ala2))
    bias.save(tmp_path / "bias.npz")
    np.testing.assert_array_equal(load_grid(tmp_path / "bias.npz"), bias.grid)
    chosen = bias_for(ala2, RunSettings(ns=1, bias=str(tmp_path / "bias.npz")))
    assert chosen is not None
    assert chosen.interval == 0
    assert chosen.describe() == bias.describe()


@pytest.mark.parametrize("word", ["metadynamic", "NONE", "grid"])
def test_an_unknown_bias_is_refused(ala2: Molecule, word: str) -> None:
    with pytest.raises(InputError, match="expected 'metadynamics'"):
        bias_for(ala2, RunSettings(ns=1, bias=word))


def test_a_missing_or_foreign_bias_file_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        load_grid(tmp_path / "no.npz")
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(InputError, match="not a bias file"):
        load_grid(tmp_path / "x.npz")
    with pytest.raises(InputError, match="expected shape"):
        DihedralBias(ala2, 300.0, np.zeros((2, 10, 10)))

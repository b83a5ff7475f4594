"""The compiled transferable solvent: the same energy and forces as the torch module and as OpenMM's OBC2."""

from __future__ import annotations

import pickle
from typing import Any

import numba
import numpy as np
import pytest
import torch
from openmm import Context, Platform, System, VerletIntegrator

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.kernel.simd import load, store
from mlsim.deploy.kernel.solvent import vector_functions
from mlsim.deploy.kernel.solvent.compiled_solvent import CompiledSolvent, bind_solvent
from mlsim.deploy.kernel.table import tabulate
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import ArtifactError
from mlsim.models.contract import create
from mlsim.models.transferable import forms
from mlsim.models.transferable.atoms import OFFSET_RADIUS, SolventAtoms
from mlsim.models.transferable.forms import OUTPUTS
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from mlsim.potentials.born import GeneralizedBorn
from mlsim.potentials.contract import Placement


@pytest.fixture(scope="module")
def peptide() -> Molecule:
    """Charged ends and side chains, more atoms than two vectors hold."""
    return build("DK")


@pytest.fixture(scope="module")
def atoms(peptide: Molecule) -> SolventAtoms:
    return solvent_atoms(peptide)


def model_of(atoms: SolventAtoms, form: str, last_layer: float, dielectric: float = 95.0) -> TransferableISSNet:
    config = {"form": form, "features": 12, "n_radial": 8, "dielectric": dielectric, **domain_of([atoms])}
    model = create("transferable", config, seed=2).double()
    assert isinstance(model, TransferableISSNet)
    torch.nn.init.normal_(model.head_out.weight, 0.0, last_layer, generator=torch.Generator().manual_seed(3))
    return model


def compiled(model: TransferableISSNet, atoms: SolventAtoms, dtype: str, intervals: int = 1024) -> CompiledSolvent:
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    kinds = model.type_indices(atoms.kinds).numpy()
    return bind_solvent(model.config.model_dump(), weights, tabulate(model, intervals), kinds, atoms.parameters, dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-5), ("float32", 3e-5)])
@pytest.mark.parametrize("form", tuple(OUTPUTS))
def test_energy_and_forces_are_those_of_the_torch_module(
    form: str, dtype: str, tolerance: float, peptide: Molecule, atoms: SolventAtoms
) -> None:
    model = model_of(atoms, form, 0.3)
    x = torch.from_numpy(peptide.positions).requires_grad_()
    expected = model.bind_atoms(atoms, "molecule")(x)
    (slope,) = torch.autograd.grad(expected, x)
    energy, forces = compiled(model, atoms, dtype).energy_forces(peptide.positions)
    assert energy == pytest.approx(expected.item(), rel=tolerance, abs=1e-6)
    np.testing.assert_allclose(forces, -slope, atol=tolerance * float(slope.abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_an_untrained_solvent_is_openmms_obc2(
    dtype: str, tolerance: float, peptide: Molecule, atoms: SolventAtoms
) -> None:
    model = model_of(atoms, "screened", 0.0, forms.DIELECTRIC_OBC2)
    energy, forces = compiled(model, atoms, dtype).energy_forces(peptide.positions)
    system = System()
    for mass in peptide.masses:
        system.addParticle(mass)
    GeneralizedBorn("obc2").add_to(system, peptide, Placement())
    context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(peptide.positions)
    state = context.getState(energy=True, forces=True)
    reference = state.getForces(asNumpy=True)._value
    assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=tolerance)
    np.testing.assert_allclose(forces, reference, atol=tolerance * np.abs(reference).max())


@pytest.mark.parametrize("form", ["additive", "screened+additive"])
def test_forces_are_the_exact_gradient_of_the_compiled_energy(
    form: str, peptide: Molecule, atoms: SolventAtoms
) -> None:
    solvent = compiled(model_of(atoms, form, 0.3), atoms, "float64", intervals=64)  # coarse: the energy is its own
    _, forces = solvent.energy_forces(peptide.positions)
    step = 1e-5
    for atom, axis in [(0, 0), (7, 1), (peptide.n_atoms - 1, 2)]:
        ends = np.stack([peptide.positions, peptide.positions])
        ends[:, atom, axis] += step, -step
        up, down = solvent.evaluate(ends)[0]
        assert forces[atom, axis] == pytest.approx((down - up) / (2 * step), rel=1e-6, abs=1e-5)


def test_copies_are_computed_one_like_the_other_on_any_number_of_threads(
    peptide: Molecule, atoms: SolventAtoms
) -> None:
    solvent = compiled(model_of(atoms, "screened+additive", 0.3), atoms, "float32")
    moved = peptide.positions + 0.005 * np.random.default_rng(1).normal(size=(5, *peptide.positions.shape))
    energies, forces = solvent.evaluate(moved, threads=1)
    again, same = pickle.loads(pickle.dumps(solvent)).evaluate(moved, threads=2)
    np.testing.assert_array_equal(energies, again)
    np.testing.assert_array_equal(forces, same)
    one, alone = solvent.energy_forces(moved[3])
    assert one == energies[3]
    np.testing.assert_array_equal(alone, forces[3])


def test_a_molecule_may_drift_far_from_the_origin(peptide: Molecule, atoms: SolventAtoms) -> None:
    solvent = compiled(model_of(atoms, "screened+additive", 0.3), atoms, "float32")
    energy, forces = solvent.energy_forces(peptide.positions)
    far, same = solvent.energy_forces(peptide.positions + 1e4)
    assert far == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(same, forces, atol=1e-2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_position_that_is_not_finite_makes_the_energy_nan(
    value: float, peptide: Molecule, atoms: SolventAtoms
) -> None:
    solvent = compiled(model_of(atoms, "screened", 0.3), atoms, "float32")
    broken = peptide.positions.copy()
    broken[4, 1] = value
    energy, _ = solvent.energy_forces(broken)
    assert np.isnan(energy)
    assert np.isfinite(solvent.energy_forces(peptide.positions)[0])


def test_the_desk_multiplies_forces_and_keeps_the_energy(peptide: Molecule, atoms: SolventAtoms) -> None:
    solvent = compiled(model_of(atoms, "scaled", 0.3), atoms, "float64")
    energy, forces = solvent.energy_forces(peptide.positions)
    desk = solvent.desk()
    desk.positions[...] = peptide.positions
    twice, doubled = desk.run(2)
    assert twice == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(doubled, 2 * forces, atol=1e-9)


def test_radii_that_the_compiled_integral_does_not_hold_for_are_refused(atoms: SolventAtoms) -> None:
    parameters = atoms.parameters.copy()
    parameters[0, OFFSET_RADIUS] = 0.01
    odd = SolventAtoms(atoms.kinds, parameters)
    with pytest.raises(ArtifactError, match="differ too much for the compiled solvent"):
        compiled(model_of(atoms, "additive", 0.3), odd, "float32")


@numba.njit
def _apply(x: Any, minus: Any, inverse: Any) -> None:
    for k in range(0, x.size, 16):
        store(minus, k, vector_functions.exp_minus(load(x, k)))
        store(inverse, k, vector_functions.atanh(load(x, k)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 4e-7), (np.float64, 2e-14)])
def test_vector_functions_are_accurate_on_their_range(dtype: Any, tolerance: float) -> None:
    x = np.concatenate([np.linspace(0, 0.65, 160), np.geomspace(0.65, 80, 160)]).astype(dtype)
    minus, inverse = np.empty_like(x), np.empty_like(x)
    _apply(x, minus, inverse)
    np.testing.assert_allclose(minus.astype(float), np.exp(-x.astype(float)), rtol=20 * tolerance)
    np.testing.assert_allclose(minus[:160].astype(float), np.exp(-x[:160].astype(float)), rtol=tolerance)
    np.testing.assert_allclose(inverse[:160].astype(float), np.arctanh(x[:160].astype(float)), rtol=tolerance)

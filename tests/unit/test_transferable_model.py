"""The transferable solvent: exact limits, symmetries, exact gradients, and what it refuses."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from openmm import Context, Platform, System, VerletIntegrator
from torch import Tensor

from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.bridges.torchscript import ExportedEnergy, script
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import ArtifactError, SettingsError
from mlsim.models.contract import create
from mlsim.models.transferable import forms
from mlsim.models.transferable.atom_batch import AtomBatch, PairList, batch_of
from mlsim.models.transferable.atoms import SolventAtoms
from mlsim.models.transferable.flat_forces import FlatForces
from mlsim.models.transferable.forms import OUTPUTS
from mlsim.models.transferable.peptide_solvent import TransferableISSNet, domain_of
from mlsim.potentials.born import GeneralizedBorn
from mlsim.potentials.contract import Placement

FORMS = tuple(OUTPUTS)


@pytest.fixture(scope="module")
def peptides(ala2: Molecule) -> list[Molecule]:
    """A neutral molecule and one with charged ends and side chains."""
    return [ala2, build("DK")]


@pytest.fixture(scope="module")
def described(peptides: list[Molecule]) -> list[SolventAtoms]:
    return [solvent_atoms(molecule) for molecule in peptides]


def untrained(described: list[SolventAtoms], form: str, dielectric: float = 95.0) -> TransferableISSNet:
    config = {"form": form, "features": 12, "n_radial": 8, "dielectric": dielectric, **domain_of(described)}
    model = create("transferable", config, seed=2).double()
    assert isinstance(model, TransferableISSNet)
    return model


def trained(described: list[SolventAtoms], form: str) -> TransferableISSNet:
    """A model whose last layer is not zero."""
    model = untrained(described, form)
    torch.nn.init.normal_(model.head_out.weight, 0.0, 0.3, generator=torch.Generator().manual_seed(3))
    return model


def energy_and_forces(model: TransferableISSNet, atoms: SolventAtoms, positions: Tensor) -> tuple[float, Tensor]:
    x = positions.detach().clone().requires_grad_()
    energy = model.bind_atoms(atoms, "molecule")(x)
    (gradient,) = torch.autograd.grad(energy, x)
    return energy.item(), -gradient


def everything(model: TransferableISSNet, peptides: list[Molecule], described: list[SolventAtoms]) -> AtomBatch:
    return batch_of(
        [molecule.positions for molecule in peptides],
        [model.type_indices(atoms.kinds) for atoms in described],
        [torch.from_numpy(atoms.parameters.copy()) for atoms in described],
        PairList(),
    )


@pytest.mark.parametrize("form", [form for form in FORMS if form != "alone"])
def test_an_untrained_solvent_is_openmms_obc2(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model = untrained(described, form, forms.DIELECTRIC_OBC2)
    for molecule, atoms in zip(peptides, described, strict=True):
        energy, forces = energy_and_forces(model, atoms, torch.from_numpy(molecule.positions))
        system = System()
        for mass in molecule.masses:
            system.addParticle(mass)
        GeneralizedBorn("obc2").add_to(system, molecule, Placement())
        context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
        context.setPositions(molecule.positions)
        state = context.getState(energy=True, forces=True)
        assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=1e-9)
        np.testing.assert_allclose(forces, state.getForces(asNumpy=True)._value, atol=1e-6)


def test_an_untrained_network_alone_gives_nothing(peptides: list[Molecule], described: list[SolventAtoms]) -> None:
    energy, forces = energy_and_forces(untrained(described, "alone"), described[0], torch.tensor(peptides[0].positions))
    assert energy == 0.0
    assert not forces.any()


@pytest.mark.parametrize("form", FORMS)
def test_energy_is_the_same_after_rotation_translation_and_reflection(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model, x = trained(described, form), torch.from_numpy(peptides[1].positions)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    turn[0] *= -torch.sign(torch.linalg.det(turn))  # a reflection
    energy, forces = energy_and_forces(model, described[1], x)
    moved, turned = energy_and_forces(model, described[1], x @ turn.t() + 3.0)
    assert moved == pytest.approx(energy, abs=1e-9)
    torch.testing.assert_close(turned, forces @ turn.t(), atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_forces_are_minus_the_slope_of_the_energy(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model, x = trained(described, form), torch.from_numpy(peptides[1].positions)
    bound = model.bind_atoms(described[1], "molecule")
    _, forces = energy_and_forces(model, described[1], x)
    step = 1e-5
    for atom, axis in [(0, 0), (5, 2), (len(x) - 1, 1)]:
        shift = torch.zeros_like(x)
        shift[atom, axis] = step
        slope = (bound(x + shift) - bound(x - shift)).item() / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(-slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_mixed_sizes_is_its_molecules_one_by_one(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model = trained(described, form)
    together = model.batch_energies(everything(model, peptides, described))
    for molecule, atoms, energy in zip(peptides, described, together.tolist(), strict=True):
        assert energy == pytest.approx(
            energy_and_forces(model, atoms, torch.from_numpy(molecule.positions))[0], abs=1e-9
        )


@pytest.mark.parametrize("form", FORMS)
def test_the_energy_of_far_molecules_is_the_sum_of_theirs(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model = trained(described, form)
    batch = everything(model, peptides, described)
    n, m = (len(atoms) for atoms in described)
    first, second = torch.triu_indices(n + m, n + m, 1)
    far = batch.positions.clone()
    far[n:] += 1e6
    one = replace(batch, positions=far, conformation=torch.zeros(n + m, dtype=torch.int64), first=first, second=second)
    together = model.batch_energies(replace(one, count=1))
    assert together.item() == pytest.approx(model.batch_energies(batch).sum().item(), abs=1e-4)


def test_the_energy_does_not_depend_on_the_order_of_atoms(
    peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model, x = trained(described, "screened+additive"), torch.from_numpy(peptides[1].positions)
    order = np.random.default_rng(5).permutation(len(x))
    mixed = SolventAtoms(tuple(described[1].kinds[k] for k in order), described[1].parameters[order])
    energy, forces = energy_and_forces(model, described[1], x)
    again, same = energy_and_forces(model, mixed, x[order])
    assert again == pytest.approx(energy, abs=1e-9)
    torch.testing.assert_close(same, forces[order], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_quick_forces_and_their_parameter_gradients_are_those_of_autograd(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model = trained(described, form)
    batch = everything(model, peptides, described)
    x = batch.positions.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.batch_energies(replace(batch, positions=x)).sum(), x, create_graph=True)
    forces = FlatForces(model)(batch)
    torch.testing.assert_close(forces, -slope, atol=1e-5 * float(slope.detach().norm()), rtol=0.0)
    weights = torch.randn(forces.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    names, parameters = zip(*model.named_parameters(), strict=True)
    quick = torch.autograd.grad((forces * weights).sum(), parameters, allow_unused=True)
    exact = torch.autograd.grad(-(slope * weights).sum(), parameters, allow_unused=True)
    for name, one, other in zip(names, quick, exact, strict=True):
        if other is None or not other.any():
            assert one is None or not one.any(), name
        else:
            assert one is not None, name
            assert float(((one - other).norm() / other.norm()).detach()) < 1e-4, name


def test_forces_of_the_network_alone_leave_out_born(peptides: list[Molecule], described: list[SolventAtoms]) -> None:
    model = trained(described, "additive")
    silent = untrained(described, "additive")
    batch = everything(model, peptides, described)
    rest = FlatForces(model)(batch) - FlatForces(model).of_network(batch)
    torch.testing.assert_close(rest, FlatForces(silent)(batch), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_the_torchscript_program_gives_the_same_energy(
    form: str, peptides: list[Molecule], described: list[SolventAtoms]
) -> None:
    model = trained(described, form)
    bound = model.bind_atoms(described[1], "molecule")
    program = script(ExportedEnergy(bound, next(model.parameters())))
    kept = io.BytesIO()
    torch.jit.save(program, kept)
    kept.seek(0)
    x = torch.from_numpy(peptides[1].positions)
    assert torch.jit.load(kept)(x).item() == pytest.approx(bound(x).item(), abs=1e-9)


def test_unknown_kinds_are_refused_by_name(described: list[SolventAtoms]) -> None:
    model = untrained(described[:1], "additive")
    with pytest.raises(ArtifactError, match=r"DK: atoms of kinds .*N4\(C4.*are outside what this solvent was trained"):
        model.bind_atoms(described[1], "DK")


@pytest.mark.parametrize("factor", [0.9, 1.1, -1.0])
def test_charges_outside_the_trained_range_are_refused(described: list[SolventAtoms], factor: float) -> None:
    parameters = described[0].parameters.copy()
    parameters[:, 0] *= factor
    with pytest.raises(ArtifactError, match=r"has charge .* e; this solvent was trained on"):
        untrained(described, "additive").bind_atoms(replace(described[0], parameters=parameters), "molecule")


def test_a_domain_needs_one_range_of_charges_per_kind(described: list[SolventAtoms]) -> None:
    with pytest.raises(SettingsError, match="one lowest and one highest charge per kind"):
        create("transferable", {**domain_of(described), "lowest_charge": (0.0,)})


def test_two_molecules_at_once_are_refused(ala2: Molecule) -> None:
    from openmm import app, unit

    both = app.Modeller(ala2.topology, ala2.positions * unit.nanometer)
    both.add(ala2.topology, (ala2.positions + 2.0) * unit.nanometer)
    pair = Molecule.create("pair", both.topology, both.positions.value_in_unit(unit.nanometer))
    with pytest.raises(ArtifactError, match="consists of 2 separate molecules"):
        solvent_atoms(pair)

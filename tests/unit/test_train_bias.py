"""The bias of a sampling run as a part of the learning problem: right angles, right values, right derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlsim.chem.catalog import find_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.fitting.density.contrastive_fit import identity
from mlsim.fitting.density.problem import conformations
from mlsim.fitting.density.sampling_bias import TorsionBias, torsions
from mlsim.fitting.density.settings import ContrastiveSettings
from mlsim.fitting.settings import TrainSettings
from mlsim.models.contract import bind, create
from mlsim.potentials.dihedral_bias import load_grid
from mlsim.seeds import torch_stream
from mlsim.units import kT

#: Two residues that share an atom, among seven points.
ATOMS = np.array([[[0, 1, 2, 3], [1, 2, 3, 4]], [[2, 3, 4, 5], [3, 4, 5, 6]]])


def waves(points: int) -> np.ndarray:
    """cos(phi) + 0.3 sin(2 psi - phi), and twice that, on a grid."""
    axis = -np.pi + 2 * np.pi * np.arange(points) / points
    phi, psi = np.meshgrid(axis, axis, indexing="ij")
    grid = np.cos(phi) + 0.3 * np.sin(2 * psi - phi)
    return np.stack([grid, 2.0 * grid])


def points(count: int) -> torch.Tensor:
    return torch.randn((count, 7, 3), generator=torch_stream(1, "points"), dtype=torch.float64)


def test_torsions_are_those_of_numpy() -> None:
    x = points(50)
    found = torsions(x, torch.from_numpy(ATOMS.reshape(-1, 4))).numpy()
    np.testing.assert_allclose(found, dihedrals(x.numpy(), ATOMS.reshape(-1, 4)), atol=1e-12)


@pytest.mark.parametrize("size", [7, 8, 72])
def test_band_limited_grids_are_met_between_their_points(size: int) -> None:
    x = points(50)
    phi, psi = np.moveaxis(dihedrals(x.numpy(), ATOMS.reshape(-1, 4)).reshape(-1, 2, 2), -1, 0)
    wanted = (np.cos(phi) + 0.3 * np.sin(2 * psi - phi)) @ np.array([1.0, 2.0])
    np.testing.assert_allclose(TorsionBias(waves(size), ATOMS)(x).numpy(), wanted, atol=1e-12)


def test_gradient_and_its_derivative_are_those_of_differences() -> None:
    bias = TorsionBias(waves(12), ATOMS)
    x = points(2).requires_grad_(True)
    assert torch.autograd.gradcheck(bias, (x,))
    assert torch.autograd.gradgradcheck(bias, (x,))


def test_shipped_frames_have_the_bias_that_they_were_made_with(ala2: Molecule) -> None:
    place = find_system("alanine-dipeptide").directory
    frames = ForceFrames.load(place / "training" / "frames-10ns.h5")
    bias = TorsionBias(load_grid(place / "reference" / "bias.npz") / kT(300.0), ramachandran_atoms(ala2)[1])
    some = np.arange(0, len(frames), 100)
    found = bias(torch.from_numpy(np.asarray(frames.positions[some], dtype=np.float64))).numpy()
    np.testing.assert_allclose(found, frames.bias[some] / kT(300.0), atol=0.05)


def test_bias_is_in_the_problem_and_not_in_the_model() -> None:
    config = {"vocabulary": ["PT"], "features": 8, "layers": 1, "trap": 0.2}
    bound = bind(create("ebm", config, 1).double(), ["PT"] * 7, np.zeros(7))
    x, bias = points(20), TorsionBias(waves(12), ATOMS)
    plain, biased = conformations(bound, x, x), conformations(bound, x, x, bias=bias)
    apart = biased.energy(biased.train) - plain.energy(plain.train)
    torch.testing.assert_close(apart, bias(x), atol=1e-10, rtol=0)
    settings = TrainSettings(), ContrastiveSettings()
    assert identity(plain, *settings) != identity(biased, *settings)


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="R, G, G"):
        TorsionBias(np.zeros((2, 8, 7)), ATOMS)
    with pytest.raises(InputError, match="one residue"):
        TorsionBias(np.zeros((1, 8, 8)), ATOMS)

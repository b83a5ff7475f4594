"""The contract of a learned energy: subclass ``ModelContract`` once per model and every claim below is tested."""

from __future__ import annotations

import io
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlsim.errors import ArtifactError
from mlsim.models.contract import AbstractEnergyModel, BoundEnergy, bind

seeds = st.integers(0, 2**31)
# One test serves every subclass and shares its model, both of which hypothesis would otherwise refuse.
_SHARED = [HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
few = settings(max_examples=8, deadline=None, suppress_health_check=_SHARED)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly random proper rotation matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def geometry(seed: int, n_atoms: int, batch: int) -> np.ndarray:
    """Positions [batch, n_atoms, 3] (nm) of a loose random cluster without overlaps."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n_atoms] * 0.22
    return grid + rng.uniform(-0.05, 0.05, size=(batch, n_atoms, 3))


class ModelContract:
    """What every model promises. Subclasses set ``cutoff_nm`` and implement :meth:`build`."""

    cutoff_nm: ClassVar[float]
    atom_types: ClassVar[tuple[str, ...]] = ("HC", "CT", "HC", "HC", "C", "O", "N", "H", "CX", "H1")
    equal_atoms: ClassVar[tuple[int, ...]] = (0, 2, 3)
    charges: ClassVar[tuple[float, ...]] = (0.11, -0.37, 0.11, 0.11, 0.6, -0.57, -0.42, 0.27, 0.03, 0.14)

    @classmethod
    def build(cls) -> AbstractEnergyModel:
        """A model with random parameters that make a visible energy."""
        raise NotImplementedError

    @pytest.fixture
    def bound(self) -> BoundEnergy:
        return bound_in_double_precision(type(self))  # type: ignore[arg-type]  # a class can be hashed

    def positions(self, seed: int, batch: int = 1) -> Tensor:
        return torch.from_numpy(geometry(seed, len(self.atom_types), batch))

    @given(seed=seeds)
    @few
    def test_energy_is_invariant_under_rotation_translation_and_reflection(self, bound: BoundEnergy, seed: int) -> None:
        rng = np.random.default_rng(seed)
        x = self.positions(seed)
        moved = x @ torch.from_numpy(random_rotation(rng)).T + torch.from_numpy(rng.normal(size=3))
        assert torch.allclose(bound(x), bound(moved), rtol=0, atol=1e-9)
        assert torch.allclose(bound(x), bound(-x), rtol=0, atol=1e-9)

    @given(seed=seeds)
    @few
    def test_forces_rotate_with_the_molecule_and_have_no_net_force_or_torque(
        self, bound: BoundEnergy, seed: int
    ) -> None:
        rotation = torch.from_numpy(random_rotation(np.random.default_rng(seed)))
        x = self.positions(seed)
        _, f = bound.model.energy_and_forces(x, bound.types, bound.charges)
        _, g = bound.model.energy_and_forces(x @ rotation.T, bound.types, bound.charges)
        f, g = f.detach(), g.detach()
        assert torch.allclose(f @ rotation.T, g, rtol=0, atol=1e-8)
        assert f.abs().max() > 1e-3
        assert torch.allclose(f.sum(1), torch.zeros(1, 3, dtype=f.dtype), atol=1e-8)
        assert torch.allclose(torch.linalg.cross(x, f).sum(1), torch.zeros(1, 3, dtype=f.dtype), atol=1e-8)

    @given(seed=seeds)
    @few
    def test_energy_does_not_change_when_equal_atoms_are_exchanged(self, bound: BoundEnergy, seed: int) -> None:
        order = np.arange(len(self.atom_types))
        order[list(self.equal_atoms)] = np.random.default_rng(seed).permutation(self.equal_atoms)
        x = self.positions(seed)
        assert torch.allclose(bound(x), bound(x[:, order]), rtol=0, atol=1e-9)

    def test_energy_does_change_when_different_atoms_are_exchanged(self, bound: BoundEnergy) -> None:
        order = np.arange(len(self.atom_types))
        order[[4, 5]] = order[[5, 4]]
        x = self.positions(1)
        assert (bound(x) - bound(x[:, order])).abs().max() > 1e-4

    @given(seed=seeds)
    @few
    def test_forces_agree_with_finite_differences_in_float64(self, bound: BoundEnergy, seed: int) -> None:
        x = self.positions(seed)
        _, forces = bound.model.energy_and_forces(x, bound.types, bound.charges)
        direction = torch.from_numpy(np.random.default_rng(seed).normal(size=x.shape))
        h = 1e-4
        with torch.no_grad():
            e = [bound(x + k * h * direction).item() for k in (-2, -1, 1, 2)]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
        scale = forces.norm() * direction.norm()
        assert abs(slope + (forces * direction).sum()) <= 1e-6 * scale

    def test_energy_and_its_first_two_derivatives_vanish_smoothly_at_the_cutoff(self, bound: BoundEnergy) -> None:
        pair = bind(bound.model, self.atom_types[4:6], self.charges[4:6])

        def derivatives(distance: float) -> list[float]:
            d = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
            zero = torch.zeros((), dtype=torch.float64)
            x = torch.stack([torch.stack([zero, zero, zero]), torch.stack([d, zero, zero])])
            e = pair(x)
            (de,) = torch.autograd.grad(e, d, create_graph=True)
            (dde,) = torch.autograd.grad(de, d)
            return [e.item(), de.item(), dde.item()]

        c = self.cutoff_nm
        beyond = derivatives(1.5 * c)
        inside = derivatives(0.5 * c)
        assert beyond[1:] == [0.0, 0.0]
        assert abs(inside[1]) > 1e-4
        for step in (1e-4, -1e-4):
            close = derivatives(c * (1 - step))
            assert abs(close[0] - beyond[0]) <= 1e-8 * max(1.0, abs(inside[0] - beyond[0]))
            assert abs(close[1]) <= 1e-5 * abs(inside[1])
            assert abs(close[2]) <= 2e-2 * abs(inside[2])

    def test_a_batch_gives_the_same_energies_as_single_geometries(self, bound: BoundEnergy) -> None:
        x = self.positions(3, batch=5)
        together = bound(x)
        single = torch.stack([bound(frame) for frame in x])
        assert together.shape == (5,)
        assert bound(x[0]).shape == ()
        assert torch.allclose(together, single, rtol=0, atol=1e-10)

    def test_scripted_model_survives_a_file_and_equals_the_eager_one(self, bound: BoundEnergy) -> None:
        x = self.positions(4, batch=3)
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(bound), file)
        file.seek(0)
        loaded = torch.jit.load(file)
        a, b = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
        eager, scripted = bound(a), loaded(b)
        assert torch.allclose(eager, scripted, rtol=1e-12, atol=0)
        (ga,) = torch.autograd.grad(eager.sum(), a)
        (gb,) = torch.autograd.grad(scripted.sum(), b)
        assert torch.allclose(ga, gb, rtol=0, atol=1e-10 * ga.abs().max().item())
        assert torch.allclose(loaded(x[0]), eager[0], rtol=1e-12, atol=0)

    def test_float32_agrees_with_float64(self) -> None:
        single = bind(self.build().float(), self.atom_types, self.charges)
        double = bind(self.build().double(), self.atom_types, self.charges)
        x = self.positions(5, batch=2)
        e32, f32 = single.model.energy_and_forces(x.float(), single.types, single.charges.float())
        e64, f64 = double.model.energy_and_forces(x, double.types, double.charges)
        assert e32.dtype == f32.dtype == torch.float32
        assert single(x.float()).dtype == torch.float32
        assert double(x).dtype == torch.float64
        assert torch.allclose(e32.double(), e64, rtol=2e-5, atol=2e-4)
        assert (f32.double() - f64).norm() <= 2e-4 * f64.norm()

    def test_energy_and_forces_equal_forward_and_its_gradient(self, bound: BoundEnergy) -> None:
        x = self.positions(6, batch=2).requires_grad_(True)
        energy = bound(x)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
        e, f = bound.model.energy_and_forces(x, bound.types, bound.charges)
        assert torch.allclose(e, energy, rtol=1e-9, atol=1e-9)
        assert torch.allclose(f, -gradient, rtol=0, atol=1e-8 * gradient.abs().max().item())
        with torch.no_grad():
            plain = bound.model.energy_and_forces(x, bound.types, bound.charges)
        assert torch.allclose(plain[1], f, rtol=0, atol=1e-9 * gradient.abs().max().item())
        assert not plain[0].requires_grad
        assert not plain[1].requires_grad

    def test_force_loss_has_the_gradient_of_finite_differences_in_the_parameters(self) -> None:
        model = self.build().double()
        types = model.type_indices(self.atom_types)
        charges = torch.tensor(self.charges, dtype=torch.float64)
        x = self.positions(7, batch=2)
        target = torch.from_numpy(np.random.default_rng(7).normal(size=x.shape))

        def loss() -> Tensor:
            return (model.energy_and_forces(x, types, charges)[1] - target).square().mean()

        loss().backward()
        moved = [p for p in model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(8)
        directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in moved]
        parts = [(p.grad * v).sum() for p, v in zip(moved, directions, strict=True) if p.grad is not None]
        slope = torch.stack(parts).sum()
        h, values = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                for p, v in zip(moved, directions, strict=True):
                    p.add_(sign * h * v)
            values.append(loss().item())
            with torch.no_grad():
                for p, v in zip(moved, directions, strict=True):
                    p.sub_(sign * h * v)
        assert abs((values[0] - values[1]) / (2 * h) - slope) <= 1e-5 * abs(slope)

    def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generator_alone(self) -> None:
        before = torch.random.get_rng_state()
        one, two = self.build().state_dict(), self.build().state_dict()
        assert torch.equal(before, torch.random.get_rng_state())
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_an_unknown_atom_type_is_refused_by_name(self, bound: BoundEnergy) -> None:
        with pytest.raises(ArtifactError, match="'Zn2'"):
            bind(bound.model, ("CT", "Zn2"), (0.0, 2.0))

    def test_a_wrong_number_of_charges_is_refused(self, bound: BoundEnergy) -> None:
        with pytest.raises(ArtifactError, match="one per atom"):
            bind(bound.model, ("CT", "HC"), (0.0,))


@cache
def bound_in_double_precision(contract: type[ModelContract]) -> BoundEnergy:
    """The contract's model and atoms, built once per class."""
    return bind(contract.build().double(), contract.atom_types, contract.charges)

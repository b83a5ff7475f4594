"""The contract of a sampler: subclass ``SamplerContract`` once per method and every claim below is tested."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mlsim.errors import InputError, UnphysicalError
from mlsim.samplers.algorithm import LogDensity, Sampler, sample

PARTICLES = 24


def stretched_normal(positions: torch.Tensor) -> torch.Tensor:
    """log density of independent normals with standard deviations 1 and 0.5."""
    return -0.5 * (positions[..., 0] ** 2 + 4.0 * positions[..., 1] ** 2)


def start(seed: int = 3, count: int = PARTICLES, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Standard normal particles [count, 2]."""
    return torch.randn((count, 2), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stream(seed: int = 7) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def frozen(state: Any) -> list[torch.Tensor]:
    """Copies of all tensors in a state, nested states included."""
    copies = []
    for value in state:
        if isinstance(value, torch.Tensor):
            copies.append(value.clone())
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            copies += frozen(value)
    return copies


class SamplerContract:
    """What every sampler promises. Subclasses implement :meth:`build`."""

    #: Whether a long run reproduces the target exactly (Metropolis methods).
    exact = False

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        """The sampler bound to a target on the plane."""
        raise NotImplementedError

    def test_state_starts_with_positions_and_log_density_and_info_with_gradients(self) -> None:
        sampler = self.build(stretched_normal)
        state, info = sampler.step(sampler.init(start(), stream()), stream())
        assert state._fields[:2] == ("positions", "log_density")
        assert info._fields[0] == "gradients"
        assert isinstance(sampler.name, str)

    def test_log_density_of_the_state_is_that_of_its_positions(self) -> None:
        result = sample(self.build(stretched_normal), start(), 60, stream())
        torch.testing.assert_close(result.log_density, stretched_normal(result.positions))

    def test_step_does_not_change_its_argument(self) -> None:
        sampler = self.build(stretched_normal)
        state = sampler.init(start(), stream())
        before = frozen(state)
        sampler.step(state, stream())
        for old, new in zip(before, frozen(state), strict=True):
            torch.testing.assert_close(old, new, rtol=0.0, atol=0.0, equal_nan=True)

    def test_start_is_not_changed(self) -> None:
        x = start()
        sample(self.build(stretched_normal), x, 30, stream())
        torch.testing.assert_close(x, start(), rtol=0.0, atol=0.0)

    def test_same_generator_same_particles(self) -> None:
        first = sample(self.build(stretched_normal), start(), 30, stream(5)).positions
        second = sample(self.build(stretched_normal), start(), 30, stream(5)).positions
        torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)

    def test_reported_gradients_are_those_spent_and_stay_within_the_budget(self) -> None:
        evaluated = [0]

        def counting(positions: torch.Tensor) -> torch.Tensor:
            evaluated[0] += positions.shape[0]
            return stretched_normal(positions)

        result = sample(self.build(counting), start(), 53, stream())
        assert result.gradients <= 53
        # The first evaluation of tempering covers all its replicas; it is counted once per particle.
        assert abs(evaluated[0] - PARTICLES * result.gradients) <= 3 * PARTICLES

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_is_kept(self, dtype: torch.dtype) -> None:
        assert sample(self.build(stretched_normal), start(dtype=dtype), 20, stream()).positions.dtype == dtype

    def test_trajectory_is_recorded_as_asked(self) -> None:
        result = sample(self.build(stretched_normal), start(), 60, stream(), record_every=2)
        assert result.trajectory.shape == (result.steps // 2, PARTICLES, 2)

    def test_nan_in_the_start_is_refused(self) -> None:
        x = start()
        x[3, 1] = float("nan")
        with pytest.raises(UnphysicalError, match="NaN"):
            sample(self.build(stretched_normal), x, 10, stream())

    def test_a_target_of_wrong_shape_is_refused(self) -> None:
        with pytest.raises(InputError, match="one number per particle"):
            sample(self.build(lambda x: -0.5 * x**2), start(), 10, stream())

    def test_long_run_has_mean_and_variance_of_the_target(self) -> None:
        if not self.exact:
            return self._settles()
        result = sample(self.build(stretched_normal), 2.0 * start(count=160), 200, stream())
        x = result.positions
        assert x.mean(0).abs().max() < 0.25
        torch.testing.assert_close(x.var(0), torch.tensor([1.0, 0.25], dtype=x.dtype), rtol=0.35, atol=0.0)
        return None

    def _settles(self) -> None:
        """Approximate methods: near the target, to within their bias."""
        result = sample(self.build(stretched_normal), 2.0 * start(count=60), 200, stream())
        variance = result.positions.var(0)
        assert 0.5 < variance[0] < 1.5
        assert 0.1 < variance[1] < 0.4

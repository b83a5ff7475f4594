"""Energy-based models keep the contract of models."""

from __future__ import annotations

import torch

from mlsim.models.contract import create
from mlsim.testing import ModelContract


class TestEnergyBasedModel(ModelContract):
    cutoff_nm = 0.6

    @classmethod
    def build(cls):
        config = {"features": 12, "layers": 2, "n_radial": 8, "cutoff_nm": 0.6}
        return create("ebm", config, seed=3)


class TestEnergyBasedModelWithTanhBesselAndCore(ModelContract):
    cutoff_nm = 0.9

    @classmethod
    def build(cls):
        config = {"features": 8, "layers": 3, "n_radial": 6, "cutoff_nm": 0.9, "activation": "tanh"}
        return create("ebm", {**config, "radial": "bessel", "core": 2.5}, seed=4)


class TestEnergyBasedModelOfLimitedDepth(ModelContract):
    cutoff_nm = 0.6

    @classmethod
    def build(cls):
        config = {"features": 12, "layers": 2, "n_radial": 8, "cutoff_nm": 0.6, "depth": 0.3}
        model = create("ebm", config, seed=5)
        model.settle(-20.0)
        return model

    def test_the_network_goes_at_most_the_depth_below_its_floor_and_is_as_it_was_above_it(self):
        model = self.build().double()
        x = 1.5 * torch.randn(64, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        types, charges = torch.zeros(5, dtype=torch.int64), torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)
        with torch.no_grad():
            bare = model.network(x, types, charges)
            floor = bare.median().item()
            model.settle(floor)
            found = model.reduced(x, types, charges)
        assert bare.min() < floor - 0.3  # deeper than it may go
        assert found.min() > floor - 0.3
        torch.testing.assert_close(found[bare > floor], bare[bare > floor])
        torch.testing.assert_close(found, torch.maximum(bare, floor - 0.3 * torch.tanh((floor - bare) / 0.3)))

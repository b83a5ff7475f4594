"""Every model keeps the contract of models."""

from __future__ import annotations

from mlsim.models.contract import create
from mlsim.testing import ModelContract


class TestISSNet(ModelContract):
    cutoff_nm = 0.6

    @classmethod
    def build(cls):
        config = {"features": 16, "blocks": 2, "n_radial": 8, "cutoff_nm": 0.6, "energy_scale": 10.0}
        return create("issnet", config, seed=3)


class TestISSNetWithBesselBasisAndSilu(ModelContract):
    cutoff_nm = 0.9

    @classmethod
    def build(cls):
        config = {
            "features": 12,
            "blocks": 3,
            "n_radial": 6,
            "cutoff_nm": 0.9,
            "radial": "bessel",
            "activation": "silu",
        }
        return create("issnet", {**config, "energy_scale": 10.0}, seed=4)


class TestISSNetOfOneBlock(ModelContract):
    cutoff_nm = 1.2

    @classmethod
    def build(cls):
        return create("issnet", {"features": 8, "blocks": 1, "energy_scale": 10.0}, seed=5)

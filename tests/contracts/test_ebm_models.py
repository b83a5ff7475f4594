"""Energy-based models keep the contract of ``model_contract``."""

from __future__ import annotations

from mlsim.models.contract import create
from tests.contracts.model_contract import ModelContract


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

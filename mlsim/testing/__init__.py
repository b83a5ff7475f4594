"""The contracts as tests: subclass one in your own test suite, say what to build, and pytest tests every claim.

    from mlsim.testing import EncoderContract

    class TestMine(EncoderContract):
        @classmethod
        def build(cls):
            return MyEncoder(...)

        @classmethod
        def inputs(cls, count):
            return np.random.default_rng(0).random((count, 8))

What keeps its contract works with every command and function of this package. Needs the extra ``mlsim[testing]``
(pytest, hypothesis). Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from mlsim.errors import DependencyError

_HOMES = {
    "EncoderContract": "mlsim.testing.encoder_contract",
    "ImplicitPotentialContract": "mlsim.testing.potential_contract",
    "ModelContract": "mlsim.testing.model_contract",
    "PotentialContract": "mlsim.testing.potential_contract",
    "SamplerContract": "mlsim.testing.sampler_contract",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlsim.testing' has no attribute '{name}'")
    try:
        import pytest
    except ImportError:
        raise DependencyError('mlsim.testing needs pytest; install it with: pip install "mlsim[testing]"') from None
    pytest.register_assert_rewrite(_HOMES[name])  # failed claims show the values they compared
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)

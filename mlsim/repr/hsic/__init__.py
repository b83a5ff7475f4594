"""SSL-HSIC: features that depend on what two views of one thing have in common, and the dependence measure itself.

    from mlsim.repr.hsic import TimeLaggedHSIC, hsic_test
    coordinates = TimeLaggedHSIC(lag=10).fit([features]).transform(features)

Reference: Li, Pogodin, Sutherland and Gretton, NeurIPS 2021 (arXiv:2106.08320).

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import Any

from mlsim.repr.lazy import member

_HOMES = {
    "HsicEncoder": "mlsim.repr.hsic.hsic_encoder",
    "ImageSettings": "mlsim.repr.hsic.image_features",
    "ObjectiveSettings": "mlsim.repr.hsic.objectives",
    "PretrainSettings": "mlsim.repr.hsic.hsic_pretrain",
    "TimeLaggedHSIC": "mlsim.repr.hsic.time_lagged",
    "TimeLaggedSettings": "mlsim.repr.hsic.time_lagged",
    "hsic": "mlsim.repr.hsic.estimators",
    "hsic_test": "mlsim.repr.hsic.dependence",
    "pretrain_images": "mlsim.repr.hsic.image_features",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return member(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return list(__all__)

"""Feature encoders that analysis code calls: one interface, ways to pretrain, probes and stitches to judge.

    from mlsim.repr import load_encoder
    features = load_encoder("beit-extension-map").encode(images)     # float32 [n, d]

Names are imported when they are first used: nothing here loads torch or transformers. The room needs the extra
``mlsim[repr]`` (transformers, scikit-learn, pillow) and could be deleted without touching the rest of the package.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Encoder": "mlsim.repr.encoder",
    "InputSettings": "mlsim.repr.encoder",
    "available": "mlsim.repr.shipped_encoders",
    "load_encoder": "mlsim.repr.registry",
    "register": "mlsim.repr.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlsim.repr' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)

"""One root seed, split into named streams.

Every random number of a run comes from a stream derived from ``(root seed, name)`` by hashing, so that
adding a consumer never shifts another one and a replica's path does not depend on how many run beside it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

from mlsim.records import hashed_integer

if TYPE_CHECKING:
    import torch


def fresh_seed() -> int:
    """Draw a root seed from the operating system (recorded in ``run.json`` so that it can be repeated)."""
    return secrets.randbelow(2**31 - 1) + 1


def derive(root: int, name: str) -> int:
    """A 63-bit seed for the stream ``name`` under ``root``."""
    return hashed_integer(f"{root}/{name}", 63)


def numpy_stream(root: int, name: str) -> np.random.Generator:
    """A numpy generator for the stream ``name``."""
    return np.random.default_rng(derive(root, name))


def torch_stream(root: int, name: str, device: str = "cpu") -> torch.Generator:
    """A torch generator for the stream ``name`` on ``device``."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(derive(root, name))
    return generator


def openmm_seed(root: int, name: str) -> int:
    """A seed OpenMM accepts: 1 .. 2^31-1 (0 would mean "random" there)."""
    return derive(root, name) % (2**31 - 1) + 1

"""Fixtures shared by all tests."""

from __future__ import annotations

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("PYMBAR_DISABLE_JAX", "1")

import pytest
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule


@pytest.fixture(scope="session")
def ala2() -> Molecule:
    """The shipped alanine dipeptide."""
    return load_system("alanine-dipeptide")

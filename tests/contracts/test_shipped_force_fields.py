"""Shipped force fields load, are verified, and give the energies and forces that they gave when first shipped.

Golden numbers, at the positions of the shipped molecule: energy (kJ/mol) and root mean square force (kJ/mol/nm) by
``mlsim.load_forcefield(NAME).bind(molecule).evaluate(positions)`` of the revision that first shipped each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.catalog import load_system, shipped
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.workflow.force_fields.force_field import load_forcefield

FIRST = {
    "issnet-ala2": ("alanine-dipeptide", 48.27662459015846, 98.88530966089172),
    "issnet-ala3": ("alanine-tripeptide", 119.5162216424942, 93.10904854079394),
    "ebm-ala2": ("alanine-dipeptide", -106.85301208496094, 49.48732649211824),
    "ebm-dw4": (None, 0.1692567765712738, 54.81363670756805),
    "ebm-lj13": (None, -49.20071029663086, 41.93910517741494),
}


@pytest.mark.parametrize("name", FIRST)
def test_a_shipped_force_field_gives_what_it_gave(name: str) -> None:
    system, energy, force = FIRST[name]
    directory = shipped() / "forcefields" / name
    molecule = load_system(directory / "molecule.pdb" if system is None else system)
    found, forces = load_forcefield(directory).bind(molecule).evaluate(molecule.positions[None])
    assert float(found[0]) == pytest.approx(energy, rel=1e-5, abs=1e-4)
    assert float(np.sqrt(np.square(forces).mean())) == pytest.approx(force, rel=1e-5)


@pytest.mark.parametrize("path", sorted((shipped() / "forcefields").glob("*/card.yaml")), ids=lambda p: p.parent.name)
def test_every_shipped_force_field_may_be_used_as_it_is(path: Path) -> None:
    """Its verification passed for exactly these files."""
    assert ForceFieldArtifact.load(path.parent).card.verified is not None

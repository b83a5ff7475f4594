"""Designed starting conformations: sound, reproducible, and spread over basins, rotamers and charge distances."""

from __future__ import annotations

import numpy as np
import pytest

from mlsim.chem import checks
from mlsim.chem.conformers import BASINS, DISTANCES_NM, ROTAMERS, charged_groups, conformer, designed_torsions
from mlsim.chem.sequence import parse
from mlsim.seeds import numpy_stream


def test_the_same_number_is_the_same_conformation() -> None:
    first, second = conformer("ACE-SER-NME", 3), conformer("ACE-SER-NME", 3)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert np.abs(first.positions - conformer("ACE-SER-NME", 4).positions).max() > 0.05


@pytest.mark.parametrize("sequence", ["ACE-TRP-NME", "ACE-PRO-ILE-NME", "ALA-GLY-SER"])
def test_every_conformation_passes_the_checks(sequence: str) -> None:
    for number in range(4):
        assert checks.check(conformer(sequence, number)).passed


def test_every_basin_and_rotamer_comes_once_before_one_comes_twice() -> None:
    sequence = parse("ACE-LEU-NME")
    chains = [designed_torsions(sequence, k, numpy_stream(k, "test")) for k in range(len(BASINS))]
    nearest = {
        int(np.argmin([abs((chain[1].phi - phi + 180) % 360 - 180) + abs((chain[1].psi - psi + 180) % 360 - 180)
                       for phi, psi in BASINS]))
        for chain in chains
    }  # fmt: skip
    assert len(nearest) >= len(BASINS) - 1  # noise may move one over a border
    chi = {ROTAMERS[int(np.argmin([abs((c[1].chi[0] - r + 180) % 360 - 180) for r in ROTAMERS]))] for c in chains[:3]}
    assert chi == set(ROTAMERS)


def test_a_pair_of_charges_is_brought_to_the_listed_distances() -> None:
    sequence = parse("ACE-LYS-GLU-NME")
    for number in (0, 3):
        molecule = conformer("ACE-LYS-GLU-NME", number)
        (a, plus), (b, minus) = charged_groups(molecule, sequence)
        assert (plus, minus) == (1, -1)
        assert np.linalg.norm(molecule.positions[a] - molecule.positions[b]) == pytest.approx(
            DISTANCES_NM[number], abs=0.08
        )


def test_uncapped_ends_count_as_charges() -> None:
    molecule = conformer("ALA-ASP", 0)
    signs = [sign for _, sign in charged_groups(molecule, parse("ALA-ASP"))]
    assert signs == [1, -1, -1]

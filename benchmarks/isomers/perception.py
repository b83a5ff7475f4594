"""What molecule a set of points is: bonds from distances, valences, validity, and how far bond lengths are off.

    bond order   the highest order whose typical length plus tolerance exceeds the distance (tables below)
    stable atom  bond orders add up to its valence;   stable molecule: all atoms are
    validity     RDKit perceives one connected, neutral molecule with all valences filled (the xyz2mol road)
    lengths      Wasserstein-1 distance of the bonded distances per pair of elements, mean over the pairs

Stability needs no perception of charges and is what generative models of molecules are compared by; it follows the
table and the tolerances of Hoogeboom et al. Validity is stricter in connectivity and laxer in lengths.

Symbols: d distance in Angstrom; typical lengths ``SINGLE``, ``DOUBLE``, ``TRIPLE`` in pm, tolerances 10, 5, 3 pm.
References: Hoogeboom et al. 2022, arXiv:2203.17003 (stability); Kim & Kim 2015 (bonds from coordinates, as in
xyz2mol); typical bond lengths are textbook values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.isomers.rdkit_parts import rdkit_part
from mlsim.errors import InputError
from mlsim.shapes import Floats

#: Typical bond lengths, pm.
SINGLE = {"CC": 154, "CH": 109, "CN": 147, "CO": 143, "HH": 74, "HN": 101, "HO": 96, "NN": 145, "NO": 140, "OO": 148}
DOUBLE = {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121}
TRIPLE = {"CC": 120, "CN": 116, "CO": 113, "NN": 110}
_TOLERANCE = (10.0, 5.0, 3.0)
_VALENCE = {"C": 4, "N": 3, "O": 2, "H": 1}
#: Distances below this are bonded in ``bond_lengths``: 1.3 times the typical single bond.
_REACH = 1.3
_PM_PER_ANGSTROM = 100.0


@dataclass(frozen=True)
class Verdict:
    """Shares of a set of molecules, each in [0, 1] but the last.

    Attributes
    ----------
    atom_stability, molecule_stability : float
    validity : float
        Perceived as one neutral molecule of the right formula.
    unique : float
        Different molecules among the valid ones.
    recovered : float
        Share of the known isomers that occur at least once.
    novel : float
        Share of the valid ones that is not among the known isomers.
    bond_length_w1 : float
        Angstrom; NaN if no pair of elements is bonded in both sets.
    """

    atom_stability: float
    molecule_stability: float
    validity: float
    unique: float
    recovered: float
    novel: float
    bond_length_w1: float


def _pair(first: str, second: str) -> str:
    return "".join(sorted((first, second)))


def bond_orders(elements: Sequence[str], positions: Floats) -> Floats:
    """Bond order matrices [B, n, n] (0 to 3) of positions [B, n, 3] (Angstrom) by the table of lengths."""
    x = np.asarray(positions, dtype=np.float64)
    if x.ndim != 3 or x.shape[1:] != (len(elements), 3):
        raise InputError(f"positions: expected [molecules, {len(elements)}, 3], got {list(x.shape)}")
    distance = np.linalg.norm(x[:, :, None] - x[:, None, :], axis=-1) * _PM_PER_ANGSTROM
    orders = np.zeros_like(distance)
    for table, tolerance in zip((SINGLE, DOUBLE, TRIPLE), _TOLERANCE, strict=True):
        limits = np.array([[table.get(_pair(a, b), -np.inf) for b in elements] for a in elements])
        orders += distance < limits + tolerance
    orders[:, np.arange(len(elements)), np.arange(len(elements))] = 0.0
    return orders


def stability(elements: Sequence[str], positions: Floats) -> tuple[float, float]:
    """Shares of stable atoms and of stable molecules among positions [B, n, 3] (Angstrom)."""
    valence = np.array([_VALENCE[element] for element in elements])
    stable = bond_orders(elements, positions).sum(-1) == valence
    return float(stable.mean()), float(stable.all(1).mean())


def perceived_smiles(elements: Sequence[str], positions: Floats) -> str | None:
    """Canonical SMILES (no stereo) that RDKit reads from coordinates [n, 3] (Angstrom); None if it is no molecule.

    The points must form one connected, neutral molecule without radicals.
    """
    chem, bonds = rdkit_part("Chem"), rdkit_part("Chem.rdDetermineBonds")
    block = [str(len(elements)), ""]
    block += [f"{e} {x:.5f} {y:.5f} {z:.5f}" for e, (x, y, z) in zip(elements, np.asarray(positions), strict=True)]
    molecule = chem.MolFromXYZBlock("\n".join(block) + "\n")
    if molecule is None:
        return None
    logs = rdkit_part("RDLogger")
    logs.DisableLog("rdApp.*")
    try:
        bonds.DetermineConnectivity(molecule)
        orders = [atom.GetDegree() > _VALENCE[atom.GetSymbol()] or not atom.GetDegree() for atom in molecule.GetAtoms()]
        if any(orders) or len(chem.GetMolFrags(molecule)) > 1:
            return None
        bonds.DetermineBondOrders(molecule, charge=0, allowChargedFragments=False, embedChiral=False)
        if any(atom.GetNumRadicalElectrons() or atom.GetFormalCharge() for atom in molecule.GetAtoms()):
            return None
        return str(chem.MolToSmiles(chem.RemoveHs(molecule), isomericSmiles=False))
    except (ValueError, RuntimeError):
        return None
    finally:
        logs.EnableLog("rdApp.warning")


def bond_lengths(elements: Sequence[str], positions: Floats) -> dict[str, Floats]:
    """Pooled bonded distances (Angstrom) of positions [B, n, 3], by pair of elements."""
    x = np.asarray(positions, dtype=np.float64)
    pooled: dict[str, list[Floats]] = {}
    for i in range(len(elements)):
        for j in range(i):
            kind = _pair(elements[i], elements[j])
            distance = np.linalg.norm(x[:, i] - x[:, j], axis=-1)
            near = distance[distance * _PM_PER_ANGSTROM < _REACH * SINGLE[kind]]
            pooled.setdefault(kind, []).append(near)
    return {kind: np.concatenate(values) for kind, values in sorted(pooled.items())}


def bond_length_w1(elements: Sequence[str], positions: Floats, reference: Floats) -> float:
    """Mean over the bonds of the reference of the Wasserstein-1 distance (Angstrom) of bonded distances.

    Pairs of elements without a bond in ``reference`` [B', n, 3] are left out; one without a bond in ``positions``
    [B, n, 3] counts with the distance to the nearest pair it has, so that nothing is gained by missing bonds.
    """
    from scipy.stats import wasserstein_distance

    found, known = bond_lengths(elements, positions), bond_lengths(elements, reference)
    values = []
    for kind, lengths in known.items():
        if not len(lengths):
            continue
        if len(found[kind]):
            values.append(float(wasserstein_distance(found[kind], lengths)))
        else:
            values.append(_REACH * SINGLE[kind] / _PM_PER_ANGSTROM - float(lengths.mean()))
    return float(np.mean(values)) if values else float("nan")


def judge(elements: Sequence[str], positions: Floats, reference: Floats, known: Sequence[str]) -> Verdict:
    """Verdict on positions [B, n, 3] (Angstrom).

    Parameters
    ----------
    elements : sequence of str
    positions : float [B, n, 3]
        Judged configurations.
    reference : float [B', n, 3]
        Held-out configurations the bond lengths are compared with.
    known : sequence of str
        Canonical SMILES of the isomers of the training data.
    """
    atoms, molecules = stability(elements, positions)
    read = [smiles for x in positions if (smiles := perceived_smiles(elements, x)) is not None]
    distinct = set(read)
    return Verdict(
        atom_stability=atoms,
        molecule_stability=molecules,
        validity=len(read) / len(positions),
        unique=len(distinct) / len(read) if read else 0.0,
        recovered=len(distinct & set(known)) / len(set(known)),
        novel=sum(smiles not in known for smiles in read) / len(read) if read else 0.0,
        bond_length_w1=bond_length_w1(elements, positions, reference),
    )

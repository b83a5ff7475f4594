"""All constitutional isomers of a formula, enumerated, embedded in space and given MMFF energies (extra ``molecules``).

The heavy-atom skeletons are grown, not looked up: every connected multigraph has a spanning tree, so

    trees     add one heavy atom at a time to every atom with a free valence
    closures  raise a bond order (or close a ring) once per degree of unsaturation

with duplicates removed by RDKit's canonical SMILES at each stage reaches every constitutional isomer. An isomer is
kept if RDKit can embed it, MMFF has parameters, and the bonds *perceived from the relaxed coordinates alone* are those
it was built with: a sample is judged by perceived bonds, so that a molecule perception cannot read (some of the very
strained ones) can be no target. All atoms of an isomer are ordered alike: heavy atoms by element, hydrogens last, so
that one vector of elements serves every isomer of the formula.

Symbols: DBE ``unsaturation`` = 1 + sum_a n_a (valence_a - 2) / 2.
References: Halgren 1996 (MMFF94); Wang, Witek, Landrum & Riniker 2020 (ETKDGv3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.isomers.rdkit_parts import rdkit_part
from mlsim.errors import InputError
from mlsim.shapes import Floats
from mlsim.units import KJ_PER_KCAL

VALENCE = {"C": 4, "N": 3, "O": 2, "H": 1}


@dataclass(frozen=True)
class Isomer:
    """One constitutional isomer with its relaxed conformers.

    Attributes
    ----------
    smiles : str
        Canonical, without stereochemistry.
    elements : tuple of str
        Element of each atom: heavy atoms by element, hydrogens last.
    conformers : float [K, n, 3]
        MMFF minima, Angstrom, centre of geometry at the origin.
    energies : float [K]
        Their MMFF energies, kJ/mol.
    """

    smiles: str
    elements: tuple[str, ...]
    conformers: Floats
    energies: Floats


def enumerate_smiles(formula: dict[str, int]) -> tuple[str, ...]:
    """Canonical SMILES of every constitutional isomer of e.g. ``{"C": 5, "H": 8, "O": 1}``, sorted.

    Raises
    ------
    InputError
        If an element is not C, N, O, H, or the hydrogens do not fit the heavy atoms.
    """
    unknown = sorted(set(formula) - set(VALENCE))
    if unknown:
        raise InputError(f"isomers: expected elements C, N, O, H, got {', '.join(unknown)}")
    heavy = [element for element in ("C", "N", "O") for _ in range(formula.get(element, 0))]
    twice = 2 + sum(VALENCE[element] - 2 for element in heavy) - formula.get("H", 0)
    if not heavy or twice < 0 or twice % 2:
        raise InputError(f"isomers: no molecule has the formula {formula}")
    first = _edited(None, heavy[0], 0)
    trees = {"": first} if len(heavy) == 1 else {}
    frontier = [(first, heavy[1:])] if len(heavy) > 1 else []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while frontier:
        graph, rest = frontier.pop()
        for element in sorted(set(rest)):
            left = list(rest)
            left.remove(element)
            for atom in graph.GetAtoms():
                if _free(atom) < 1:
                    continue
                grown = _edited(graph, element, atom.GetIdx())
                key = (_canonical(grown), tuple(left))
                if key in seen:
                    continue
                seen.add(key)
                if left:
                    frontier.append((grown, left))
                else:
                    trees[key[0]] = grown
    level = trees
    for _ in range(twice // 2):
        level = {_canonical(graph): graph for old in level.values() for graph in _raised(old)}
    return tuple(sorted({_canonical(graph) for graph in level.values()}))


def _edited(graph: Any, element: str, where: int) -> Any:
    chem = rdkit_part("Chem")
    editable = chem.RWMol() if graph is None else chem.RWMol(graph)
    index = editable.AddAtom(chem.Atom(element))
    if graph is not None:
        editable.AddBond(where, index, chem.BondType.SINGLE)
    return _settled(editable)


def _raised(graph: Any) -> list[Any]:
    """All graphs with one bond order more."""
    chem = rdkit_part("Chem")
    order = {1: chem.BondType.DOUBLE, 2: chem.BondType.TRIPLE}
    free = [atom.GetIdx() for atom in graph.GetAtoms() if _free(atom) > 0]
    found = []
    for k, i in enumerate(free):
        for j in free[k + 1 :]:
            editable, bond = chem.RWMol(graph), graph.GetBondBetweenAtoms(i, j)
            if bond is None:
                editable.AddBond(i, j, chem.BondType.SINGLE)
            elif bond.GetBondTypeAsDouble() in order:
                editable.GetBondBetweenAtoms(i, j).SetBondType(order[int(bond.GetBondTypeAsDouble())])
            else:
                continue
            found.append(_settled(editable))
    return found


def _settled(editable: Any) -> Any:
    """Valences known, rings and aromaticity not perceived: bond orders stay as written."""
    editable.UpdatePropertyCache(strict=True)
    return editable.GetMol()


def _free(atom: Any) -> int:
    return int(VALENCE[atom.GetSymbol()] - sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))


def _canonical(graph: Any) -> str:
    """Canonical SMILES after aromaticity perception, so that Kekule forms of one molecule are one molecule."""
    chem = rdkit_part("Chem")
    copy = chem.Mol(graph)
    chem.SanitizeMol(copy)
    return str(chem.MolToSmiles(copy))


def embed(smiles: str, conformers: int, seed: int) -> Isomer | None:
    """Relaxed conformers of an isomer; None if it cannot be embedded, has no MMFF type or is not what it reads as.

    Parameters
    ----------
    smiles : str
    conformers : int
        ETKDG attempts; minima within 0.1 kJ/mol of another one are dropped.
    seed : int
        Seed of the embedding.
    """
    from benchmarks.isomers.perception import perceived_smiles

    chem, tools = rdkit_part("Chem"), rdkit_part("Chem.AllChem")
    molecule = _ordered(chem.AddHs(chem.MolFromSmiles(smiles)))
    parameters = tools.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 1)
    parameters.useRandomCoords = True
    if not list(tools.EmbedMultipleConfs(molecule, conformers, parameters)) or not tools.MMFFHasAllMoleculeParams(
        molecule
    ):
        return None
    tools.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    elements = tuple(atom.GetSymbol() for atom in molecule.GetAtoms())
    surface = Surface(molecule)
    kept: list[tuple[float, Floats]] = []
    for conformer in molecule.GetConformers():
        x = np.array(conformer.GetPositions())
        energy, _ = surface.evaluate(x)
        if all(abs(energy - other) > 0.1 for other, _ in kept) and perceived_smiles(elements, x) == smiles:
            kept.append((energy, x - x.mean(0)))
    if not kept:
        return None
    kept.sort(key=lambda entry: entry[0])
    return Isomer(smiles, elements, np.array([x for _, x in kept]), np.array([energy for energy, _ in kept]))


def _ordered(molecule: Any) -> Any:
    """Atoms sorted by element, hydrogens last; isomers of one formula then share the vector of elements."""
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    order = sorted(range(len(symbols)), key=lambda k: (symbols[k] == "H", symbols[k], k))
    return rdkit_part("Chem").RenumberAtoms(molecule, order)


class Surface:
    """MMFF94 energy surface of one molecule.

    Parameters
    ----------
    molecule : rdkit Mol
        With hydrogens and at least one conformer.
    """

    def __init__(self, molecule: Any) -> None:
        tools = rdkit_part("Chem.AllChem")
        self._field = tools.MMFFGetMoleculeForceField(molecule, tools.MMFFGetMoleculeProperties(molecule))
        self._field.Initialize()

    @classmethod
    def of(cls, isomer: Isomer) -> Surface:
        """The surface of an isomer."""
        chem, tools = rdkit_part("Chem"), rdkit_part("Chem.AllChem")
        molecule = _ordered(chem.AddHs(chem.MolFromSmiles(isomer.smiles)))
        tools.EmbedMolecule(molecule, randomSeed=1, useRandomCoords=True)
        return cls(molecule)

    def evaluate(self, positions: Floats) -> tuple[float, Floats]:
        """Energy (kJ/mol) and its gradient [n, 3] (kJ/mol/Angstrom) at ``positions`` [n, 3] (Angstrom)."""
        flat = np.asarray(positions, dtype=np.float64).ravel().tolist()
        energy = float(self._field.CalcEnergy(flat))
        gradient = np.array(self._field.CalcGrad(flat)).reshape(-1, 3)
        return KJ_PER_KCAL * energy, KJ_PER_KCAL * gradient

"""Chemical kinds: what an atom is by its bonds, in any peptide and any force field.

A transferable solvent must describe atoms of peptides that it has never met, so the description can be neither a place
in one molecule nor an index that one force field has. Here it is the neighbourhood in the graph of bonds: element and
number of bonds of the atom, of its neighbours, and of their neighbours. Two bonds are the reach of mesomerism and of
the inductive effect that matters to water, and tell apart what must be told apart: amide and carboxylate, the
tautomers of histidine, a neutral and a charged amine, free and bridged sulfur, alpha and side-chain carbon, nitrogen
in proline and in any other residue.

    O1(C3(C4 N3))             oxygen with one bond, to a carbon with three, which goes on to a C4 and an N3: amide O
    O1(C3(C4 O1))             carboxylate O          O1(C3(C4 O2))    of the protonated acid
    H1(N3(C3 C4))             amide H                H1(N4(C4 H1 H1)) of a charged amine

Mirror images have the same graph, and so have the same kinds: D-amino acids, rings through the backbone, caps and free
ends need no entry of their own. The names are canonical: they do not depend on the order of atoms or bonds.

Bond orders are not needed: with all hydrogens present the number of bonds tells the hybridisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlsim.errors import InputError


def chemical_kinds(elements: Sequence[str], bonds: Iterable[Sequence[int]]) -> tuple[str, ...]:
    """The kind of every atom.

    Parameters
    ----------
    elements : sequence of str, length N
        Chemical symbols, hydrogens included.
    bonds : pairs of int
        Indices of bonded atoms, each pair once.

    Returns
    -------
    tuple of str, length N

    Raises
    ------
    InputError
        If a bond names an atom that does not exist, or joins an atom to itself.
    """
    around = _neighbours(len(elements), bonds)
    bare = [f"{element}{len(others)}" for element, others in zip(elements, around, strict=True)]

    def branch(atom: int, origin: int) -> str:
        beyond = sorted(bare[k] for k in around[atom] if k != origin)
        return f"{bare[atom]}({' '.join(beyond)})" if beyond else bare[atom]

    return tuple(
        f"{bare[atom]}({' '.join(sorted(branch(k, atom) for k in around[atom]))})" if around[atom] else bare[atom]
        for atom in range(len(elements))
    )


def pieces(n_atoms: int, bonds: Iterable[Sequence[int]]) -> int:
    """Number of separate molecules among ``n_atoms`` atoms joined by ``bonds``."""
    around = _neighbours(n_atoms, bonds)
    unseen, number = set(range(n_atoms)), 0
    while unseen:
        number += 1
        edge = [unseen.pop()]
        while edge:
            new = around[edge.pop()] & unseen
            unseen -= new
            edge += new
    return number


def _neighbours(n_atoms: int, bonds: Iterable[Sequence[int]]) -> list[set[int]]:
    around: list[set[int]] = [set() for _ in range(n_atoms)]
    for first, second in bonds:
        i, j = int(first), int(second)
        if not (0 <= i < n_atoms and 0 <= j < n_atoms) or i == j:
            raise InputError(f"bond {i}-{j}: expected two different atoms of 0 to {n_atoms - 1}")
        around[i].add(j)
        around[j].add(i)
    return around

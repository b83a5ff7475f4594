"""Residue templates: which atoms a residue has, what they are called, and in which order.

The order is that of the Amber force field templates (``amber14/protein.ff14SB.xml``), so that force data made
elsewhere with the same force field lines up atom by atom. The names are those OpenMM gives after reading a PDB
file (``pdbNames.xml``): acetyl hydrogens are ``H1 H2 H3``, the N-terminal ones ``H H2 H3``. Both tables are read
from the files that ship with OpenMM; nothing is retyped here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from openmm import app

from mlsim.chem.sequence import C_CAPS, N_CAP, Sequence, from_states, residue_of

#: The protein force field of the package (Amber ff14SB, as shipped with OpenMM).
PROTEIN_FORCE_FIELD = "amber14/protein.ff14SB.xml"
#: Water that goes with it.
WATER_FORCE_FIELD = "amber14/tip3p.xml"
_DATA = Path(app.__file__).parent / "data"
_WATERS = frozenset({
    "HOH", "WAT", "H2O", "DOD", "SOL", "SPC", "SPCE", "OPC", "OPC3", "TIP", "TIP3", "TIP4", "TIP5", "TP3", "TP4", "TP5",
    "T3P", "T4P", "T5P", "T3H", "T4H", "T4E", "WTR", "HHO", "OH2",
})  # fmt: skip
#: Elements that occur as ions in structure files.
_ION_ELEMENTS = frozenset({
    "LI", "NA", "K", "RB", "CS", "MG", "CA", "SR", "BA", "ZN", "MN", "FE", "CO", "NI", "CU", "CD", "HG", "AG", "PB",
    "AL", "F", "CL", "BR", "IOD",
})  # fmt: skip
#: What CHARMM and others call them.
_IONS = frozenset({"SOD", "CLA", "POT", "LIT", "RUB", "CES", "CAL", "BAR", "CAD", "CIO", "IB", "IM", "IP", "NIO"})


def is_water(residue: str) -> bool:
    """Whether a residue name is one of water."""
    return residue in _WATERS


def is_ion(residue: str) -> bool:
    """Whether a residue name is one of a monatomic ion, with or without its charge (``NA+``, ``ZN2``, ``CU1``)."""
    return residue in _IONS or residue.strip("0123456789+-") in _ION_ELEMENTS


@lru_cache(maxsize=1)
def _force_field_atoms() -> dict[str, tuple[str, ...]]:
    root = ElementTree.parse(_DATA / PROTEIN_FORCE_FIELD).getroot()
    residues = root.find("Residues")
    assert residues is not None
    return {r.attrib["name"]: tuple(a.attrib["name"] for a in r.findall("Atom")) for r in residues}


@lru_cache(maxsize=1)
def _name_tables() -> dict[str, dict[str, str]]:
    def table(residue: ElementTree.Element) -> dict[str, str]:
        return {alias: atom.attrib["name"] for atom in residue.findall("Atom") for alias in atom.attrib.values()}

    root = ElementTree.parse(_DATA / "pdbNames.xml").getroot()
    by_name = {r.attrib["name"]: r for r in root.findall("Residue")}
    shared = table(by_name["Protein"])
    return {name: {**shared, **table(r)} for name, r in by_name.items() if r.attrib.get("type") == "Protein"}


def standard_name(residue: str, atom: str) -> str:
    """OpenMM's name for an atom that a file calls ``atom`` (unknown names come back unchanged)."""
    return _name_tables().get(residue, {}).get(atom, atom)


def atom_names(sequence: Sequence, position: int) -> tuple[str, ...]:
    """Atoms of the residue at ``position`` (from 0), in Amber order, under OpenMM's names."""
    state = sequence.states[position]
    capped = state in (N_CAP, *C_CAPS)
    end = ""
    if not capped and position == 0:
        end = "N"
    elif not capped and position == len(sequence) - 1:
        end = "C"
    residue = residue_of(state)
    return tuple(standard_name(residue, atom) for atom in _force_field_atoms()[end + state])


def state_from_atoms(residue: str, names: Collection[str]) -> str:
    """Protonation state of a residue, from the titratable hydrogens among its atoms (OpenMM's names)."""
    if residue == "HIS":
        return ("HIP" if "HE2" in names else "HID") if "HD1" in names else "HIE"
    if residue == "ASP":
        return "ASH" if "HD2" in names else "ASP"
    if residue == "GLU":
        return "GLH" if "HE2" in names else "GLU"
    if residue == "LYS":  # without hydrogens on NZ it is charged; of a neutral one the template keeps HZ2 and HZ3
        return "LYN" if {"HZ2", "HZ3"} <= set(names) and "HZ1" not in names else "LYS"
    if residue == "NH2":
        return "NHE"
    return residue


def sequence_of(topology: app.Topology) -> Sequence:
    """The sequence of a molecule that this package made or read."""
    bridges = tuple(
        (min(pair), max(pair))
        for a, b in topology.bonds()
        if a.name == b.name == "SG" and (pair := (a.residue.index, b.residue.index))
    )
    states = [state_from_atoms(r.name, {a.name for a in r.atoms()}) for r in topology.residues()]
    for k in (k for pair in bridges for k in pair):
        states[k] = "CYX"
    return from_states(states, "molecule", bridges)


@lru_cache(maxsize=1)
def _hydrogen_parents() -> dict[str, dict[str, str]]:
    root = ElementTree.parse(_DATA / "hydrogens.xml").getroot()
    return {
        r.attrib["name"]: {h.attrib["name"]: h.attrib["parent"] for h in r.findall("H")} for r in root.iter("Residue")
    }


def parent_names(residue: str) -> dict[str, str]:
    """Heavy atom that each hydrogen of a residue sits on."""
    return _hydrogen_parents()[residue]


def is_hydrogen(atom: str) -> bool:
    """Whether an atom of a template is a hydrogen (every template name starts with its element)."""
    return atom.startswith("H")

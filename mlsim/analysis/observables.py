"""Collective variables (CVs) of a peptide from its positions: a small registry of named observables.

What: a CV is asked for by a short text, ``NAME`` or ``NAME:SELECTION``, the same in Python and on the command line:

    phi  psi                 backbone dihedrals (rad) of the only residue that has both
    phi:3  psi:3             ... of residue 3 (residue number of the topology)
    chi1:2                   side-chain dihedral (rad) of residue 2
    distance:2.NZ,4.CD       distance (nm) between two atoms, each RESIDUE.ATOM
    end-to-end               distance (nm) between the first and the last CA atom
    rg                       radius of gyration (nm), mass-weighted

Other packages add theirs by entry points of the group ``mlsim.observables``, each a :class:`CollectiveVariable`.

Why text: the spec is stored in surfaces and shown in tables, so that a saved surface says what it is a function of.
Dihedrals follow IUPAC signs (mdtraj). Positions are whole molecules: no periodic images are searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlsim.errors import InputError
from mlsim.names import Registry
from mlsim.shapes import Floats, require_shape

if TYPE_CHECKING:
    import mdtraj


@dataclass(frozen=True)
class CollectiveVariable:
    """What a name of the registry stands for.

    Attributes
    ----------
    periodic : bool
        Whether it is an angle in rad with period 2 pi.
    unit : str
        ``rad``, ``nm`` ...
    values : callable
        ``values(positions [F, N, 3] in nm, topology, observable) -> [F]``.
    selection : str
        What may follow the colon, in words; empty: nothing.
    form : str
        Regular expression of the whole selection.
    """

    periodic: bool
    unit: str
    values: Callable[[Floats, mdtraj.Topology, Observable], Floats]
    selection: str = ""
    form: str = ""


_QUADRUPLES: dict[str, tuple[tuple[int, str], ...]] = {
    "phi": ((-1, "C"), (0, "N"), (0, "CA"), (0, "C")),
    "psi": ((0, "N"), (0, "CA"), (0, "C"), (1, "N")),
}
_CHI1_ENDS = ("CG", "CG1", "SG", "OG", "OG1")


@dataclass(frozen=True)
class Observable:
    """A parsed CV spec: ``name`` of the registry and the ``selection`` after the colon ('' without)."""

    name: str
    selection: str = ""

    @property
    def text(self) -> str:
        """The spec as it was written."""
        return f"{self.name}:{self.selection}" if self.selection else self.name

    @property
    def periodic(self) -> bool:
        """Whether it is an angle with period 2 pi."""
        return REGISTRY.get(self.name).periodic

    @property
    def unit(self) -> str:
        """``rad``, ``nm`` or what another package says."""
        return REGISTRY.get(self.name).unit


def parse(spec: str) -> Observable:
    """Read a CV spec.

    Raises
    ------
    InputError
        For an unknown name (with a suggestion) or a selection of the wrong form.
    """
    name, _, selection = spec.strip().partition(":")
    kind = REGISTRY.get(name, spec)
    if re.fullmatch(kind.form, selection) is None:
        raise InputError(f"collective variable '{spec}': expected {kind.selection or 'nothing'} after '{name}'")
    return Observable(name, selection)


def same_residue(names: Sequence[str]) -> bool:
    """Whether ``names`` are the phi and psi, in this order, of one residue (then basins are defined)."""
    if len(names) != 2:
        return False
    first, second = parse(names[0]), parse(names[1])
    return (first.name, second.name) == ("phi", "psi") and first.selection == second.selection


def evaluate(positions: Floats, topology: mdtraj.Topology, specs: Sequence[str]) -> Floats:
    """CVs of every frame.

    Parameters
    ----------
    positions : [F, N, 3]
        Positions, nm; the molecule is whole.
    topology : mdtraj.Topology
        N atoms, with residue numbers and atom names (a PDB file's ``mdtraj.load_topology``).
    specs : sequence of str
        C specs.

    Returns
    -------
    [F, C]
        Angles in rad within (-pi, pi], lengths in nm.

    Raises
    ------
    InputError
        If a spec is not understood or does not fit the molecule, or positions are not finite [F, N, 3].
    """
    positions = require_shape(positions, (None, topology.n_atoms, 3), "positions (nm)")
    if len(positions) == 0:
        raise InputError("positions (nm): expected at least one frame, got none")
    if len(specs) == 0:
        raise InputError("collective variables: expected at least one, got none")
    return np.stack([_column(positions, topology, parse(spec)) for spec in specs], axis=1)


def _column(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    values = REGISTRY.get(observable.name).values(positions, topology, observable)
    return require_shape(values, (len(positions),), f"collective variable '{observable.text}'")


def _torsion(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    return _dihedral(positions, _dihedral_atoms(topology, observable))


def _end_to_end(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    ends = [a.index for a in topology.atoms if a.name == "CA"]
    if len(ends) < 2:
        raise InputError(f"end-to-end: expected at least two CA atoms, the molecule has {len(ends)}")
    return _separation(positions, ends[0], ends[-1])


def _distance(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    first, second = (_atom(topology, text, observable) for text in observable.selection.split(","))
    if first == second:
        raise InputError(f"collective variable '{observable.text}': expected two different atoms")
    return _separation(positions, first, second)


def _separation(positions: Floats, first: int, second: int) -> Floats:
    difference = positions[:, second].astype(np.float64) - positions[:, first]
    return np.linalg.norm(difference, axis=1)


def _dihedral(positions: Floats, atoms: tuple[int, int, int, int]) -> Floats:
    import mdtraj

    few = mdtraj.Trajectory(positions[:, atoms, :], topology=None)
    angles = mdtraj.compute_dihedrals(few, np.array([[0, 1, 2, 3]]), periodic=False)
    return np.asarray(angles[:, 0], dtype=np.float64)


def _radius_of_gyration(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    masses = np.array([a.element.mass for a in topology.atoms], dtype=np.float64)
    x = positions.astype(np.float64)
    centred = x - (masses[:, None] * x).sum(axis=1, keepdims=True) / masses.sum()
    return np.sqrt((masses * np.square(centred).sum(axis=2)).sum(axis=1) / masses.sum())


def _atom(topology: mdtraj.Topology, text: str, observable: Observable) -> int:
    number, _, name = text.partition(".")
    residues = [r for r in topology.residues if r.resSeq == int(number)]
    found = [a.index for r in residues for a in r.atoms if a.name == name]
    if len(found) == 1:
        return found[0]
    if not residues:
        raise InputError(f"collective variable '{observable.text}': {_numbers(topology, number)}")
    if not found:
        names = " ".join(a.name for r in residues for a in r.atoms)
        raise InputError(
            f"collective variable '{observable.text}': no atom {name} in residue {residues[0]}; it has {names}"
        )
    raise InputError(f"collective variable '{observable.text}': {len(found)} atoms match {text}, expected one")


def _numbers(topology: mdtraj.Topology, number: str) -> str:
    known = ", ".join(f"{r.resSeq} ({r.name})" for r in topology.residues)
    return f"no residue {number}; residues: {known}"


def _dihedral_atoms(topology: mdtraj.Topology, observable: Observable) -> tuple[int, int, int, int]:
    found = {r.resSeq: q for r in topology.residues if (q := _quadruple(topology, r, observable.name)) is not None}
    if not found:
        raise InputError(f"collective variable '{observable.text}': no residue of this molecule has {observable.name}")
    choices = " ".join(f"{observable.name}:{number}" for number in found)
    asked = f"collective variable '{observable.text}'"
    if observable.selection:
        number = int(observable.selection)
        if number not in found:
            raise InputError(f"{asked}: residue {number} has no {observable.name}; possible: {choices}")
        return found[number]
    if len(found) > 1 and observable.name in _QUADRUPLES:
        both = [
            r.resSeq
            for r in topology.residues
            if all(_quadruple(topology, r, name) is not None for name in _QUADRUPLES)
        ]
        if len(both) == 1:
            return found[both[0]]
    if len(found) > 1:
        raise InputError(f"{asked}: {len(found)} residues have {observable.name}; choose one of {choices}")
    return next(iter(found.values()))


def _quadruple(topology: mdtraj.Topology, residue: mdtraj.core.topology.Residue, name: str) -> tuple | None:
    """Indices of the four atoms of a dihedral of ``residue``, or None where it has no such dihedral."""
    here = {a.name: a.index for a in residue.atoms}
    if name == "chi1":
        ends = [here[e] for e in _CHI1_ENDS if e in here]
        inner = [here.get(n) for n in ("N", "CA", "CB")]
        return (*inner, ends[0]) if ends and None not in inner else None
    atoms = []
    for offset, atom in _QUADRUPLES[name]:
        index = residue.index + offset
        if not 0 <= index < topology.n_residues or topology.residue(index).chain.index != residue.chain.index:
            return None
        names = {a.name: a.index for a in topology.residue(index).atoms}
        if atom not in names:
            return None
        atoms.append(names[atom])
    return tuple(atoms)


_RESIDUE = {"selection": "residue number (optional for a peptide with one such residue)", "form": r"(-?\d+)?"}
_ATOM = r"-?\d+\.[\w'*]+"
REGISTRY: Registry[CollectiveVariable] = Registry(
    "collective variable",
    "mlsim.observables",
    {
        **{name: CollectiveVariable(True, "rad", _torsion, **_RESIDUE) for name in ("phi", "psi", "chi1")},
        "distance": CollectiveVariable(
            False, "nm", _distance, "two atoms, e.g. distance:2.NZ,4.CD", f"{_ATOM},{_ATOM}"
        ),
        "end-to-end": CollectiveVariable(False, "nm", _end_to_end),
        "rg": CollectiveVariable(False, "nm", _radius_of_gyration),
    },
    lambda found: isinstance(found, CollectiveVariable),
    "a mlsim.analysis.observables.CollectiveVariable",
)

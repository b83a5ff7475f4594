"""Collective variables (CVs) of a peptide from its positions: named observables, and functions of the user.

What: a CV is asked for by a short text, ``NAME`` or ``NAME:SELECTION``, the same in Python and on the command line:

    phi  psi  omega            backbone dihedrals (rad) of the only residue that has them; phi:3 of residue 3
    chi1:2  ...  chi5:2        side-chain dihedrals (rad) of residue 2
    distance:2.NZ,4.CD         distance (nm) between two atoms, each RESIDUE.ATOM
    end-to-end                 distance (nm) between the first and the last CA atom
    rg                         radius of gyration (nm), mass-weighted
    rmsd:native.pdb            RMSD (nm) of the heavy atoms from a structure; rmsd:native.pdb,CA of the CA atoms
    hbonds                     number of hydrogen bonds within the molecule
    salt-bridges               number of pairs of charged side chains within 0.4 nm; salt-bridge:2,4 the distance (nm)
    helicity  strand  dssp:3   number of residues in helix or strand; 0 coil, 1 helix, 2 strand of residue 3
    package.module:function    any function of an mdtraj.Trajectory (``variables.user_function``)
    column:NAME                a column of a table of another program

``phi:all`` (any CV of a residue) stands for one surface for each residue that has it (``every_residue``). Other
packages add names by entry points of the group ``mlsim.observables``, each a :class:`CollectiveVariable`.

Why text: the spec is stored in surfaces and shown in tables, so that a saved surface says what it is a function of. It
is stored in one form (``canonical``): ``phi:2`` is ``phi`` in a molecule where phi means residue 2, so that both mix.
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
from mlsim.runs.coordinate import Coordinate
from mlsim.shapes import Floats, require_shape

if TYPE_CHECKING:
    import mdtraj

#: Selection that stands for every residue.
ALL = "all"
#: Kinds whose selection says its unit behind an ``@``.
_DECLARING = ("function", "column")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(@[\w/^-]+)?")


@dataclass(frozen=True)
class CollectiveVariable:
    """What a name of the registry stands for.

    Attributes
    ----------
    periodic : bool
        Whether it is an angle in rad with period 2 pi.
    unit : str
        ``rad``, ``nm`` ...; empty for a number without a unit.
    values : callable
        ``values(positions [F, N, 3] in nm, topology, observable) -> [F]``.
    selection : str
        What may follow the colon, in words; empty: nothing.
    form : str
        Regular expression of the whole selection.
    discrete : bool
        Whether it takes integers only; each gets a bin of its own.
    residues : callable or None
        ``residues(topology, name)`` -> numbers of the residues that have it, and the one meant without a number (or
        None); None for a variable of the whole molecule.
    stored : callable or None
        ``stored(observable)`` -> the form in which a spec is kept in files; None: as it is asked for.
    coordinate : callable or None
        ``coordinate(topology, observable)`` -> :class:`mlsim.runs.coordinate.Coordinate`, with which a bias acts on it;
        None: it is for analysis only.
    """

    periodic: bool
    unit: str
    values: Callable[[Floats, mdtraj.Topology, Observable], Floats]
    selection: str = ""
    form: str = ""
    discrete: bool = False
    residues: Callable[[mdtraj.Topology, str], tuple[tuple[int, ...], int | None]] | None = None
    stored: Callable[[Observable], Observable] | None = None
    coordinate: Callable[[mdtraj.Topology, Observable], Coordinate] | None = None


@dataclass(frozen=True)
class Observable:
    """A parsed CV spec: ``name`` of the registry and the ``selection`` after the colon ('' without)."""

    name: str
    selection: str = ""

    @property
    def text(self) -> str:
        """The spec as it was written."""
        if self.name == "function":
            return self.selection
        return f"{self.name}:{self.selection}" if self.selection else self.name

    @property
    def periodic(self) -> bool:
        """Whether it is an angle with period 2 pi."""
        return self.unit == "rad" if self.name in _DECLARING else REGISTRY.get(self.name).periodic

    @property
    def unit(self) -> str:
        """``rad``, ``nm`` or what another package or the user says."""
        if self.name in _DECLARING:
            return self.selection.partition("@")[2]
        return REGISTRY.get(self.name).unit

    @property
    def discrete(self) -> bool:
        """Whether it takes integers only."""
        return REGISTRY.get(self.name).discrete


def parse(spec: str) -> Observable:
    """Read a CV spec; a function of the user is not imported.

    Raises
    ------
    InputError
        For an unknown name (with a suggestion) or a selection of the wrong form.
    """
    spec = spec.strip()
    name, _, selection = spec.partition(":")
    if name not in REGISTRY and _FUNCTION.fullmatch(spec):
        return Observable("function", spec)
    kind = REGISTRY.get(name, spec)
    if kind.residues is not None and selection == ALL:
        return Observable(name, selection)
    if re.fullmatch(kind.form, selection) is None:
        raise InputError(f"collective variable '{spec}': expected {kind.selection or 'nothing'} after '{name}'")
    return Observable(name, selection)


def names_one(text: str) -> bool:
    """Whether a word has the form of a CV spec (on a command line: a further value of ``--cv``)."""
    return text.partition(":")[0] in REGISTRY or _FUNCTION.fullmatch(text) is not None


def canonical(topology: mdtraj.Topology, specs: Sequence[str]) -> tuple[str, ...]:
    """The form in which specs are stored: no residue number where the molecule needs none; functions with units."""
    return tuple(_canonical(topology, parse(spec)).text for spec in specs)


def every_residue(topology: mdtraj.Topology, specs: Sequence[str]) -> list[tuple[str, ...]]:
    """Specs with ``all`` spread over the residues that have all of them; without ``all`` just the specs.

    Raises
    ------
    InputError
        If no residue has them all.
    """
    asked = [parse(spec) for spec in specs]
    spread = [observable for observable in asked if observable.selection == ALL]
    if not spread:
        return [tuple(specs)]
    numbers = None
    for observable in spread:
        kind = REGISTRY.get(observable.name)
        assert kind.residues is not None
        here = kind.residues(topology, observable.name)[0]
        numbers = here if numbers is None else tuple(n for n in numbers if n in here)
    if not numbers:
        raise InputError(f"no residue of this molecule has {' and '.join(observable.name for observable in spread)}")
    return [tuple(f"{o.name}:{n}" if o.selection == ALL else o.text for o in asked) for n in numbers]


def equivalent(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists of specs are of the same CVs of one molecule.

    The phi and psi of the residue that needs no number are the same with and without it; a single phi is not enough to
    tell, because it may be meant by another rule.
    """
    if tuple(names) == tuple(others):
        return True
    if not (same_residue(names) and same_residue(others)):
        return False
    return "" in (parse(names[0]).selection, parse(others[0]).selection)


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
    DependencyError
        If a function of the user cannot be imported.
    """
    positions = require_shape(positions, (None, topology.n_atoms, 3), "positions (nm)")
    if len(positions) == 0:
        raise InputError("positions (nm): expected at least one frame, got none")
    if len(specs) == 0:
        raise InputError("collective variables: expected at least one, got none")
    return np.stack([_column(positions, topology, parse(spec)) for spec in specs], axis=1)


def coordinates(topology: mdtraj.Topology, specs: Sequence[str]) -> tuple[Coordinate, ...]:
    """CVs as formulas of atoms, with which a bias acts on them.

    Raises
    ------
    InputError
        If a spec is not understood, does not fit the molecule, or has no such formula.
    """
    found = []
    for observable in map(parse, specs):
        kind = REGISTRY.get(observable.name)
        if observable.selection == ALL or kind.coordinate is None:
            raise InputError(
                f"collective variable '{observable.text}': no bias can act on it; expected one with a formula of "
                "atoms, such as a torsion of one residue (psi:3), a distance (distance:2.NZ,4.CD) or end-to-end"
            )
        found.append(kind.coordinate(topology, observable))
    return tuple(found)


def _column(positions: Floats, topology: mdtraj.Topology, observable: Observable) -> Floats:
    if observable.selection == ALL:
        raise InputError(f"collective variable '{observable.text}': expected one residue; 'all' is for fes and compare")
    values = REGISTRY.get(observable.name).values(positions, topology, observable)
    return require_shape(values, (len(positions),), f"collective variable '{observable.text}'")


def _canonical(topology: mdtraj.Topology, observable: Observable) -> Observable:
    kind = REGISTRY.get(observable.name)
    if kind.stored is not None:
        return kind.stored(observable)
    if kind.residues is None or not observable.selection:
        return observable
    default = kind.residues(topology, observable.name)[1]
    return Observable(observable.name) if observable.selection == str(default) else observable


REGISTRY: Registry[CollectiveVariable] = Registry(
    "collective variable",
    "mlsim.observables",
    {
        **dict.fromkeys(("phi", "psi", "omega"), "mlsim.analysis.variables.torsion_angles:TORSION"),
        **{f"chi{k}": "mlsim.analysis.variables.torsion_angles:TORSION" for k in range(1, 6)},
        "distance": "mlsim.analysis.variables.lengths:DISTANCE",
        "end-to-end": "mlsim.analysis.variables.lengths:END_TO_END",
        "rg": "mlsim.analysis.variables.lengths:RADIUS_OF_GYRATION",
        "rmsd": "mlsim.analysis.variables.lengths:RMSD",
        "hbonds": "mlsim.analysis.variables.bonds_and_bridges:HYDROGEN_BONDS",
        "salt-bridges": "mlsim.analysis.variables.bonds_and_bridges:BRIDGES",
        "salt-bridge": "mlsim.analysis.variables.bonds_and_bridges:BRIDGE",
        "helicity": "mlsim.analysis.variables.secondary_structure:COUNT",
        "strand": "mlsim.analysis.variables.secondary_structure:COUNT",
        "dssp": "mlsim.analysis.variables.secondary_structure:CODE",
        "function": "mlsim.analysis.variables.user_function:FUNCTION",
        "column": "mlsim.analysis.variables.user_function:COLUMN",
    },
    lambda found: isinstance(found, CollectiveVariable),
    "a mlsim.analysis.observables.CollectiveVariable",
)

"""Atoms and residues that a collective variable asks for, by number and name, or a refusal that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlsim.analysis.observables import Observable
from mlsim.errors import InputError

if TYPE_CHECKING:
    import mdtraj


def atom(topology: mdtraj.Topology, text: str, observable: Observable) -> int:
    """Index of the atom ``RESIDUE.NAME``.

    Raises
    ------
    InputError
        If there is none, or several.
    """
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


def residue(found: Mapping[int, object], default: int | None, observable: Observable) -> int:
    """Number of the residue that is asked for, or of the default one where no number is given.

    Parameters
    ----------
    found : mapping
        Residues that have the variable, by number.
    default : int or None
        The one that is meant without a number; None if there is no such one.

    Raises
    ------
    InputError
        If no residue has the variable, this one has not, or several have it and none is chosen.
    """
    name, asked = observable.name, f"collective variable '{observable.text}'"
    if not found:
        raise InputError(f"{asked}: no residue of this molecule has {name}")
    choices = " ".join(f"{name}:{number}" for number in found)
    if observable.selection:
        number = int(observable.selection)
        if number not in found:
            raise InputError(f"{asked}: residue {number} has no {name}; possible: {choices}")
        return number
    if default is None:
        raise InputError(f"{asked}: {len(found)} residues have {name}; choose one of {choices}")
    return default


def _numbers(topology: mdtraj.Topology, number: str) -> str:
    known = ", ".join(f"{r.resSeq} ({r.name})" for r in topology.residues)
    return f"no residue {number}; residues: {known}"

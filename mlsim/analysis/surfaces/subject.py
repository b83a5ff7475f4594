"""What a surface is of: molecule, potential, temperature and the runs behind it; what may be pooled or compared.

Why: frames of two molecules, two solvents, or of one run taken twice make a surface without complaint, and a wrong one.
So everything that becomes one surface must agree in molecule and potential and differ in its runs, wherever runs,
replicas, seeds, force data or stored surfaces meet; everything that is put side by side must agree in its molecule.

Symbols: a run is known by what decides its trajectory (``sources``), not by where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlsim.errors import InputError
from mlsim.records import digest_of_json


@dataclass(frozen=True)
class Subject:
    """What was simulated.

    Attributes
    ----------
    system : str
        Name of the molecule, e.g. ``alanine-dipeptide``.
    molecule : str
        Digest of the molecule.
    solvent : str
        Solvent as the user named it.
    potential : str
        Digest of the potential's description.
    sources : tuple of str
        One key for each independent run behind the data.
    """

    system: str
    molecule: str
    solvent: str
    potential: str
    sources: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name in tables, legends and titles."""
        return f"{self.system}, {self.solvent}"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Subject:
        """From JSON; KeyError or TypeError if it is none."""
        words = {name: str(record[name]) for name in ("system", "molecule", "solvent", "potential")}
        return cls(**words, sources=tuple(str(source) for source in record["sources"]))


def digest(description: Any) -> str:
    """Digest of a JSON-able description (of a potential, of a run)."""
    return digest_of_json(description)


def require_one_ensemble(parts: Sequence[tuple[str, Subject]]) -> Subject:
    """The subject of data that are to be pooled, each given with its name (a path, a label).

    Raises
    ------
    InputError
        If molecules or potentials differ, or a run is there twice.
    """
    first_name, first = parts[0]
    seen: dict[str, str] = {}
    for name, subject in parts:
        require_same_molecule(first_name, first, name, subject, "they cannot be pooled")
        if subject.potential != first.potential:
            raise InputError(
                f"{name} ({subject.solvent}) has another potential than {first_name} ({first.solvent}); "
                "they cannot be pooled: compare them as two candidates"
            )
        for source in subject.sources:
            if source in seen:
                raise InputError(
                    f"{name} is the same run as {seen[source]}; expected independent runs, give each of them once"
                )
            seen[source] = name
    return Subject(first.system, first.molecule, first.solvent, first.potential, tuple(seen))


def require_same_molecule(first_name: str, first: Subject, name: str, other: Subject, otherwise: str) -> None:
    """Raise InputError unless both are of one molecule."""
    if other.molecule != first.molecule:
        raise InputError(f"{name} is of {other.system}, {first_name} of {first.system}; {otherwise}")

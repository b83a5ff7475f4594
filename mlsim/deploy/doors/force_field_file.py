"""A solvent where OpenMM expects a force-field file: ``ForceField("amber14-all.xml", mlsim.solvent("issnet"))``.

OpenMM's own implicit solvents are chosen by a file beside that of the force field; this one is too. What
:func:`solvent` gives is read like an open XML file, holds ``<MlsimSolvent name="issnet"/>``, and the generator that is
registered for this tag adds the solvent (:mod:`mlsim.deploy.doors.existing_system`) when ``createSystem`` has made all
else. Every option of ``createSystem`` means what it always does; one that the solvent does not allow (a box, a cutoff)
is refused.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from openmm import System, app

from mlsim.deploy.doors.existing_system import add_solvent
from mlsim.errors import InputError
from mlsim.potentials.named import POTENTIALS

TAG = "MlsimSolvent"


class SolventFile:
    """An open force-field file that can be read any number of times.

    Parameters
    ----------
    name : str
        By which messages of OpenMM call it.
    text : str
        Contents.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text, self._place = text, 0

    def read(self, size: int = -1) -> str:
        """The next ``size`` characters; nothing at the end, after which it begins anew."""
        end = len(self._text) if size < 0 else self._place + size
        part = self._text[self._place : end]
        self._place = end if part else 0
        return part

    def __repr__(self) -> str:
        return f"mlsim.solvent({self.name!r})"


def solvent(name: str, force_group: int = 0, bridge: str = "auto") -> SolventFile:
    """A solvent to be named among the files of ``openmm.app.ForceField``.

    Parameters
    ----------
    name : str
        As after ``mlsim run --solvent``: ``issnet``, ``issnet:NAME``, ``gbn2``, ``obc2+issnet:NAME``.
    force_group : int
        Group of the solvent's forces, 0 to 31.
    bridge : {"auto", "torch", "python", "cuda"}
        How a learned solvent enters.

    Returns
    -------
    SolventFile
        To be passed behind the files of Amber ff14SB.

    Raises
    ------
    InputError
        If there is no solvent of that name. Whether it fits the molecule shows in ``createSystem``.
    """
    for part in name.split("+"):
        POTENTIALS.get(part.strip().partition(":")[0], name)
    if not 0 <= force_group < 32:
        raise InputError(f"force_group: expected 0 to 31, got {force_group}")
    attributes = f'name={quoteattr(name)} group="{force_group}" bridge={quoteattr(bridge)}'
    return SolventFile(name, f"<ForceField><{TAG} {attributes}/></ForceField>")


class SolventGenerator:
    """What OpenMM's ``ForceField`` keeps for the tag: adds the solvent to a finished System."""

    def __init__(self, name: str, force_group: int, bridge: str) -> None:
        self.name, self.force_group, self.bridge = name, force_group, bridge

    @staticmethod
    def parseElement(element: ElementTree.Element, forcefield: app.ForceField) -> None:
        """Register what one element describes."""
        given = element.attrib
        made = SolventGenerator(given["name"], int(given.get("group", "0")), given.get("bridge", "auto"))
        forcefield.registerGenerator(made)

    def createForce(self, system: System, data: Any, method: object, cutoff: object, args: dict[str, Any]) -> None:
        """Nothing yet: the mechanics must be there first."""

    def postprocessSystem(self, system: System, data: Any, args: dict[str, Any]) -> None:
        """Add the solvent."""
        if not data.atoms:
            raise InputError(f"solvent '{self.name}': no atoms in the topology; expected one peptide")
        topology = data.atoms[0].residue.chain.topology
        add_solvent(system, topology, self.name, self.force_group, self.bridge)


app.forcefield.parsers[TAG] = SolventGenerator.parseElement

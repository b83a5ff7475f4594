"""Molecule: what is simulated, as a frozen record of topology, positions and force field.

Why a record of our own instead of an OpenMM ``System``: a System cannot say which atoms are the solute, what
their Amber atom types are, or whether an artifact trained elsewhere fits. A Molecule can, and every potential
(vacuum, GB, explicit water, learned) is built from the same one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import NonbondedForce, System, app, unit

from mlsim.chem import checks
from mlsim.chem.readers.pdb_reader import read_pdb
from mlsim.chem.templates import PROTEIN_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.files import replacing
from mlsim.records import digest_of
from mlsim.shapes import require_shape


@dataclass(frozen=True, eq=False)
class Molecule:
    """A peptide, alone or in water.

    Attributes
    ----------
    name : str
        Short name, used in records and titles.
    topology : openmm.app.Topology
        Atoms, residues and bonds; solute first, then solvent if any.
    positions : float64 [N, 3], nm
    solute : int [n]
        Indices of the solute atoms (``0..n-1``).
    box : float64 [3, 3], nm, or None
        Periodic box vectors (rows); ``None`` for a molecule without solvent.
    force_field : tuple of str
        OpenMM force field files.
    file_order : int [N] or None
        Of a molecule that was read from a file: place of every atom among the atoms of the file, -1 for a hydrogen
        that was added. ``molecule.take(positions)`` brings positions in the file's order into the molecule's.
    """

    name: str
    topology: app.Topology
    positions: NDArray[np.float64]
    solute: NDArray[np.int64]
    box: NDArray[np.float64] | None = None
    force_field: tuple[str, ...] = (PROTEIN_FORCE_FIELD,)
    file_order: NDArray[np.int64] | None = None

    @classmethod
    def create(cls, name: str, topology: app.Topology, positions: object) -> Molecule:
        """A molecule without solvent: every atom is solute.

        Parameters
        ----------
        positions : array_like [N, 3], nm

        Raises
        ------
        InputError
            If shape or values of ``positions`` are wrong, or the force field has no parameters for an atom.
        """
        n = topology.getNumAtoms()
        xyz = require_shape(positions, (n, 3), "positions (nm)").astype(np.float64)
        molecule = cls(name, topology, xyz, np.arange(n))
        molecule.system_template(app.NoCutoff)  # refuses a topology that the force field does not know
        return molecule

    @classmethod
    def from_pdb(cls, path: str | Path) -> Molecule:
        """Read a peptide or a cluster of points from a PDB file; missing hydrogens of a peptide are added.

        Parameters
        ----------
        path : str or Path
            A peptide in any atom order and naming dialect (:mod:`mlsim.chem.readers.pdb_reader`), or points.

        Returns
        -------
        Molecule
            Named after the file; atoms in Amber order. Positions that were in the file are kept as they are.

        Raises
        ------
        MissingError
            If there is no such file.
        InputError
            If it is not a PDB file of one complete L-peptide; the message names the residue.
        """
        content = read_pdb(path)
        every = np.arange(len(content.positions))
        molecule = cls(
            content.name, content.topology, content.positions, every, None, content.force_field, content.file_order
        )
        if content.is_peptide:
            try:
                molecule.system_template(app.NoCutoff)  # refuses a topology that the force field does not know
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
            checks.check(molecule).require(str(path), ("bond lengths", "chirality"))
        return molecule

    # ---- facts per atom ----

    @property
    def n_atoms(self) -> int:
        """Number of atoms, solvent included."""
        return int(self.topology.getNumAtoms())

    @cached_property
    def atom_names(self) -> tuple[str, ...]:
        """PDB names."""
        return tuple(a.name for a in self.topology.atoms())

    @cached_property
    def residue_names(self) -> tuple[str, ...]:
        """Residue name of each atom."""
        return tuple(a.residue.name for a in self.topology.atoms())

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols; ``VS`` of a virtual site."""
        return tuple("VS" if a.element is None else a.element.symbol for a in self.topology.atoms())

    @cached_property
    def masses(self) -> NDArray[np.float64]:
        """Atomic masses, Da [N] (before hydrogen mass repartitioning); 0 of a virtual site."""
        elements = (a.element for a in self.topology.atoms())
        return np.array([0.0 if e is None else e.mass.value_in_unit(unit.dalton) for e in elements])

    @cached_property
    def bonds(self) -> NDArray[np.int64]:
        """Bonded pairs [M, 2], lower index first, sorted."""
        pairs = sorted(tuple(sorted((a.index, b.index))) for a, b in self.topology.bonds())
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def charges(self) -> NDArray[np.float64]:
        """Partial charges, e [N]."""
        system = self.system_template(app.NoCutoff)
        force = next(f for f in system.getForces() if isinstance(f, NonbondedForce))
        quantity = [force.getParticleParameters(i)[0] for i in range(self.n_atoms)]
        return np.array([q.value_in_unit(unit.elementary_charge) for q in quantity])

    @cached_property
    def atom_types(self) -> tuple[str, ...]:
        """Atom classes of the force field, e.g. ``CT``, ``HC``, ``N`` [N]."""
        forcefield = app.ForceField(*self.force_field)
        # Matching is by bonds, as in createSystem, not by name: PDB and Amber call the same hydrogen differently.
        data = forcefield._SystemData(self.topology)
        forcefield._matchAllResiduesToTemplates(data, self.topology, {}, False)
        return tuple(forcefield._atomTypes[data.atomType[a]].atomClass for a in self.topology.atoms())

    @cached_property
    def digest(self) -> str:
        """Identity of the chemistry (16 hex digits): elements, bonds, types and charges in this order."""
        record = [self.elements, self.bonds.tolist(), self.atom_types, np.round(self.charges, 5).tolist()]
        return digest_of(json.dumps(record))

    @cached_property
    def backbone(self) -> tuple[tuple[str, tuple[int, ...] | None, tuple[int, ...] | None], ...]:
        """Per amino acid ``(label, phi atoms, psi atoms)``; an angle that the chain lacks is None."""
        residues = [{a.name: a.index for a in r.atoms()} | {"": -1} for r in self.topology.residues()]
        labels = [f"{r.name}{r.index + 1}" for r in self.topology.residues()]
        found = []
        for k, atoms in enumerate(residues):
            if not {"N", "CA", "C"} <= atoms.keys():
                continue
            before = residues[k - 1].get("C") if k else None
            after = residues[k + 1].get("N") if k + 1 < len(residues) else None
            core = (atoms["N"], atoms["CA"], atoms["C"])
            phi = None if before is None else (before, *core)
            psi = None if after is None else (*core, after)
            found.append((labels[k], phi, psi))
        return tuple(found)

    # ---- derived molecules and systems ----

    @property
    def is_periodic(self) -> bool:
        """Whether the molecule sits in a periodic box."""
        return self.box is not None

    def with_positions(self, positions: object) -> Molecule:
        """The same molecule elsewhere; ``positions`` [N, 3], nm."""
        xyz = require_shape(positions, (self.n_atoms, 3), "positions (nm)").astype(np.float64)
        return replace(self, positions=xyz)

    def take(self, positions: object) -> NDArray[np.float64]:
        """Positions in the order of the file that the molecule was read from, in the order of the molecule.

        Parameters
        ----------
        positions : array_like [..., M, 3], nm
            All M atoms of the file, waters and ions included, in its order.

        Returns
        -------
        float64 [..., N, 3], nm

        Raises
        ------
        InputError
            If the molecule is not from a file, atoms of it were not in the file, or M is smaller than needed.
        """
        if self.file_order is None:
            raise InputError(f"{self.name}: was not read from a file; its atoms have no other order")
        if (self.file_order < 0).any():
            added = [name for name, index in zip(self.atom_names, self.file_order, strict=True) if index < 0]
            raise InputError(f"{self.name}: atoms {' '.join(added[:5])} were added when the file was read, not in it")
        given = np.asarray(positions, dtype=np.float64)
        if given.ndim < 2 or given.shape[-1] != 3 or given.shape[-2] <= self.file_order.max():
            raise InputError(
                f"{self.name}: expected positions [..., M, 3] of all atoms of the file (at least "
                f"{self.file_order.max() + 1}), got shape {list(given.shape)}"
            )
        return given[..., self.file_order, :]

    def solute_molecule(self) -> Molecule:
        """The solute alone, without box."""
        if not self.is_periodic and len(self.solute) == self.n_atoms:
            return self
        modeller = app.Modeller(self.topology, self.positions)
        modeller.delete([a for a in self.topology.atoms() if a.index >= len(self.solute)])
        top = modeller.topology
        top.setPeriodicBoxVectors(None)
        return Molecule(
            self.name, top, self.positions[self.solute], np.arange(len(self.solute)), None, (PROTEIN_FORCE_FIELD,)
        )

    def system_template(self, nonbonded: object, extra: tuple[str, ...] = ()) -> System:
        """OpenMM System of this molecule with all bonds flexible but rigid water.

        Raises
        ------
        InputError
            If the force field has no template for a residue.
        """
        try:
            return app.ForceField(*self.force_field, *extra).createSystem(
                self.topology,
                nonbondedMethod=nonbonded,
                nonbondedCutoff=0.9 * unit.nanometer,
                constraints=None,
                rigidWater=True,
                removeCMMotion=False,
            )
        except ValueError as error:
            raise InputError(f"{self.name}: the force field does not fit: {' '.join(str(error).split())}") from None

    def to_pdb(self, path: str | Path) -> None:
        """Write a PDB file (positions in angstrom, as the format asks), whole or not at all."""
        with replacing(path) as partial, open(partial, "w") as handle:
            app.PDBFile.writeFile(self.topology, self.positions * unit.nanometer, handle, keepIds=True)

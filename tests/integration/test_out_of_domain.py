"""What the solvent for any peptide was not trained on is refused by name, at every door, and never guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from openmm import NonbondedForce, app, unit

import mlsim
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.atoms_of_model import require_kinds
from mlsim.deploy.bind import load_forcefield
from mlsim.deploy.solvent_atoms import solvent_atoms
from mlsim.errors import MlsimError

NAME = "issnet-peptides"


@pytest.fixture(scope="module")
def artifact() -> ForceFieldArtifact:
    return ForceFieldArtifact.load(forcefield_directory(NAME))


def judged(artifact: ForceFieldArtifact, sequence: str, changed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Ask for a peptide with changed charges, as a System with another force field has them."""
    atoms = solvent_atoms(build(sequence))
    require_kinds(artifact.config, atoms.kinds, changed(atoms.parameters[:, 0].copy()), sequence)


@pytest.mark.parametrize("factor", [0.6, 1.4, -1.0])
@pytest.mark.parametrize("sequence", ["ACE-ALA-NME", "ACE-LYS-GLU-NME"])
def test_charges_of_another_size_are_refused(artifact: ForceFieldArtifact, sequence: str, factor: float) -> None:
    judged(artifact, sequence, lambda charges: charges)  # as they are they are known
    with pytest.raises(MlsimError, match="scaled charges"):
        judged(artifact, sequence, lambda charges: factor * charges)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_scaled_charges_of_a_system_are_refused(ala2: Molecule, factor: float) -> None:
    system = app.ForceField("amber14-all.xml").createSystem(ala2.topology)
    force = next(f for f in system.getForces() if isinstance(f, NonbondedForce))
    for k in range(22):
        q, sigma, epsilon = force.getParticleParameters(k)
        force.setParticleParameters(k, factor * q, sigma, epsilon)
    with pytest.raises(MlsimError, match="expected charges of"):
        mlsim.add_solvent(system, ala2.topology, f"issnet:{NAME}")


def test_a_molecule_with_another_force_field_is_refused(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    other = dataclasses.replace(ala2, force_field=("amber14/protein.ff15ipq.xml",))
    with pytest.raises(MlsimError, match="other charges need a solvent"):
        load_forcefield(artifact.directory).bind(other)


@pytest.mark.parametrize("shift", [0.1, -0.15])
def test_one_atom_with_another_charge_is_refused(artifact: ForceFieldArtifact, shift: float) -> None:
    def changed(charges: np.ndarray) -> np.ndarray:
        charges[int(np.argmax(charges))] += shift
        return charges

    with pytest.raises(MlsimError, match=r"charge|charges add up to"):
        judged(artifact, "ACE-SER-NME", changed)


@pytest.mark.parametrize(
    ("element", "place"), [("P", "O"), ("S", "O"), ("F", "H"), ("Se", "S"), ("Na", "H"), ("Cl", "H")]
)
def test_an_element_in_the_place_of_another_is_an_unknown_kind(
    artifact: ForceFieldArtifact, element: str, place: str
) -> None:
    from mlsim.chem.kinds import chemical_kinds

    molecule = build("ACE-MET-SER-NME")
    elements = list(molecule.elements)
    elements[[k for k, e in enumerate(elements) if e == place][-1]] = element
    kinds = chemical_kinds(elements, molecule.bonds.tolist())
    charges = solvent_atoms(molecule).parameters[:, 0]
    with pytest.raises(MlsimError, match="outside what this solvent was trained on"):
        require_kinds(artifact.config, kinds, charges, "changed")


def test_a_second_molecule_is_refused(artifact: ForceFieldArtifact, ala2: Molecule) -> None:
    model = app.Modeller(ala2.topology, ala2.positions * unit.nanometer)
    model.add(ala2.topology, (ala2.positions + 1.5) * unit.nanometer)
    system = app.ForceField("amber14-all.xml").createSystem(model.topology)
    with pytest.raises(MlsimError):
        mlsim.add_solvent(system, model.topology, f"issnet:{NAME}")


@pytest.mark.parametrize("residue", ["SEP", "TPO", "PTR", "MSE", "HYP", "AIB", "DA"])
def test_residues_that_are_no_amino_acids_of_the_force_field_are_refused_by_name(tmp_path: Path, residue: str) -> None:
    lines = (forcefield_directory(NAME) / "molecule.pdb").read_text().splitlines()
    path = tmp_path / "strange.pdb"
    path.write_text("\n".join(line.replace("ALA", f"{residue:>3}") for line in lines) + "\n")
    with pytest.raises(MlsimError, match=residue):
        load_system(path)


INSIDE = ["TYR-TYR-ASP-PRO-GLU-THR-GLY-THR-TRP-TYR", "PRO-PRO-PRO", "ARG-ASN-ASP", "CYS-GLN-GLU", "GLY-HID-ILE"]
INSIDE += ["LEU-LYS-MET", "PHE-SER-THR", "TRP-TYR-VAL", "VAL-TRP-ARG", "ILE-ALA-CYS", "THR-ALA-LEU", "MET-ALA-HIE"]
INSIDE += ["HIE-PRO-PHE", "HIP-PRO-ASN", "ACE-ASP-PRO-NME", "ACE-GLU-PRO-NME", "ACE-ASH-LYN-GLH-NME", "GLU-ALA-HIP"]


@pytest.mark.parametrize("sequence", INSIDE)
def test_any_amino_acid_with_caps_or_free_ends_is_inside(artifact: ForceFieldArtifact, sequence: str) -> None:
    judged(artifact, sequence, lambda charges: charges)


def test_what_no_training_peptide_has_is_said(artifact: ForceFieldArtifact) -> None:
    with pytest.raises(MlsimError, match="N3"):  # the amide cap, whose nitrogen has another charge than a side chain's
        judged(artifact, "ACE-ALA-NHE", lambda charges: charges)

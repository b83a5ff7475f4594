"""Collective variables of every kind: exact values, functions of the user, every residue, one name for one variable."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import pytest

from mlsim.analysis import observables
from mlsim.analysis.surfaces import histogram
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import Torsions, build
from mlsim.errors import DependencyError, InputError, MissingError


def topology_of(molecule: Molecule) -> mdtraj.Topology:
    return mdtraj.Topology.from_openmm(molecule.topology)


@pytest.fixture(scope="module")
def chignolin() -> Molecule:
    return load_system("chignolin")


def value(molecule: Molecule, spec: str) -> float:
    return float(observables.evaluate(molecule.positions[None], topology_of(molecule), (spec,))[0, 0])


def frame(molecule: Molecule) -> mdtraj.Trajectory:
    return mdtraj.Trajectory(molecule.positions[None].astype(np.float32), topology_of(molecule))


@pytest.mark.parametrize("name", ["omega", "chi1", "chi2", "chi3"])
def test_torsions_are_those_of_mdtraj_residue_by_residue(chignolin: Molecule, name: str) -> None:
    atoms, angles = getattr(mdtraj, f"compute_{name}")(frame(chignolin), periodic=False)
    top = topology_of(chignolin)
    for row, angle in zip(atoms, angles[0], strict=True):
        number = top.atom(int(row[1])).residue.resSeq
        assert value(chignolin, f"{name}:{number}") == pytest.approx(float(angle), abs=1e-5)


def test_a_turned_and_bent_structure_has_the_rmsd_of_its_bend_only(chignolin: Molecule, tmp_path: Path) -> None:
    frame(chignolin).save(str(tmp_path / "native.pdb"))
    spec = f"rmsd:{tmp_path / 'native.pdb'}"
    rotation = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moved = chignolin.positions @ rotation.T + 1.0
    found = observables.evaluate(moved[None], topology_of(chignolin), (spec, f"{spec},CA"))[0]
    assert found == pytest.approx(0.0, abs=2e-4)  # the PDB file has three digits, in angstrom
    alphas = [a.index for a in topology_of(chignolin).atoms if a.name == "CA"]
    bent = chignolin.positions.copy()
    bent[alphas[0]] += [0.3, 0.0, 0.0]
    away, near = observables.evaluate(bent[None], topology_of(chignolin), (f"{spec},CA", spec))[0]
    assert 0.04 < away < 0.3 / np.sqrt(len(alphas)) + 1e-3
    assert 0.0 < near < away
    with pytest.raises(MissingError, match="no such file"):
        value(chignolin, "rmsd:nothing.pdb")
    frame(load_system("alanine-dipeptide")).save(str(tmp_path / "other.pdb"))
    with pytest.raises(InputError, match="expected a structure of this molecule"):
        value(chignolin, f"rmsd:{tmp_path / 'other.pdb'}")


def test_salt_bridges_are_counted_where_charges_meet() -> None:
    molecule = load_system("lys-ala-glu")
    top = topology_of(molecule)
    lysine, glutamate = (next(r.resSeq for r in top.residues if r.name == name) for name in ("LYS", "GLU"))
    nitrogen = next(a.index for a in top.atoms if a.name == "NZ")
    acid = [a.index for a in top.atoms if a.name in ("OE1", "OE2")]
    for apart, count in ((0.3, 1.0), (0.5, 0.0)):
        positions = molecule.positions.copy()
        positions[nitrogen] = [10.0, 0.0, 0.0]
        positions[acid[0]] = [10.0 + apart, 0.0, 0.0]
        positions[acid[1]] = [10.0 + apart + 0.2, 0.0, 0.0]
        specs = ("salt-bridges", f"salt-bridge:{lysine},{glutamate}", f"salt-bridge:{glutamate},{lysine}")
        found = observables.evaluate(positions[None], top, specs)[0]
        assert found == pytest.approx([count, apart, apart], abs=1e-6)
    with pytest.raises(InputError, match=rf"acids: {glutamate}; bases: {lysine}"):
        value(molecule, f"salt-bridge:{lysine},{lysine}")


def test_secondary_structure_and_hydrogen_bonds_are_those_of_mdtraj(chignolin: Molecule) -> None:
    letters = mdtraj.compute_dssp(frame(chignolin), simplified=True)[0]
    assert value(chignolin, "strand") == (letters == "E").sum() > 0
    assert value(chignolin, "helicity") == (letters == "H").sum()
    numbers = [r.resSeq for r in topology_of(chignolin).residues]
    codes = [value(chignolin, f"dssp:{number}") for number in numbers]
    assert codes == [{"C": 0.0, "H": 1.0, "E": 2.0}[letter] for letter in letters]
    assert value(chignolin, "hbonds") == len(mdtraj.wernet_nilsson(frame(chignolin), periodic=False)[0]) > 0


def test_an_ideal_helix_is_all_helix() -> None:
    molecule = build("ACE-AAAAAAAA-NME", torsions=[Torsions(phi=-60.0, psi=-45.0)] * 10)
    assert value(molecule, "helicity") >= 5.0


def test_integers_get_a_bin_each() -> None:
    (edges,) = histogram.uniform_edges(np.array([[0.0], [3.0], [2.0]]), ("hbonds",), 24)
    np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])


def test_a_function_of_the_user_is_a_variable_and_is_imported_only_to_compute_it(
    ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_variables.py").write_text(
        "def height(trajectory):\n    return trajectory.xyz[:, :, 2].max(axis=1)\n"
        "height.unit = 'nm'\n\ndef turn(trajectory):\n    return trajectory.xyz[:, 0, 0]\nturn.periodic = True\n\n"
        "def wrong(trajectory):\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    names = observables.canonical(topology_of(ala2), ("my_variables:height", "my_variables:turn"))
    assert names == ("my_variables:height@nm", "my_variables:turn@rad")
    found = observables.evaluate(ala2.positions[None], topology_of(ala2), names)[0]
    assert found == pytest.approx([ala2.positions[:, 2].max(), ala2.positions[0, 0]], abs=1e-6)
    stored = [observables.parse(name) for name in ("nowhere.at_all:f@nm", "nowhere.at_all:f@rad")]
    assert [o.periodic for o in stored] == [False, True]
    assert [o.unit for o in stored] == ["nm", "rad"]
    with pytest.raises(InputError, match="one finite number for each of 1 frames"):
        value(ala2, "my_variables:wrong")
    with pytest.raises(DependencyError, match=r"neither a known name .*did you mean 'rmsd'"):
        value(ala2, "rmds:f")


def test_one_variable_has_one_name_and_only_then(ala2: Molecule, chignolin: Molecule) -> None:
    top = topology_of(ala2)
    for specs in (("phi:2", "psi:2"), ("phi", "psi")):
        assert observables.canonical(top, specs) == ("phi", "psi")
    assert observables.canonical(topology_of(chignolin), ("phi:3",)) == ("phi:3",)
    assert observables.equivalent(("phi", "psi"), ("phi:2", "psi:2"))
    assert not observables.equivalent(("phi:3", "psi:3"), ("phi:2", "psi:2"))
    assert not observables.equivalent(("phi",), ("phi:2",))
    assert not observables.equivalent(("phi", "psi"), ("phi:2", "psi:3"))
    assert not observables.equivalent(("rg", "psi"), ("rg", "psi:2"))


def test_all_stands_for_every_residue_that_has_all_of_them(chignolin: Molecule) -> None:
    top = topology_of(chignolin)
    groups = observables.every_residue(top, ("phi:all", "psi:all"))
    assert groups == [(f"phi:{n}", f"psi:{n}") for n in range(2, 10)]
    assert observables.every_residue(top, ("rg", "psi:3")) == [("rg", "psi:3")]
    with pytest.raises(InputError, match="no residue of this molecule has chi5"):
        observables.every_residue(topology_of(load_system("alanine-dipeptide")), ("chi5:all",))
    with pytest.raises(InputError, match="expected one residue"):
        observables.evaluate(chignolin.positions[None], top, ("phi:all",))

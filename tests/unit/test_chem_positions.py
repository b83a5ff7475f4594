"""Positions from outside: what is no conformation of the molecule is refused at every door, in one line."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import warnings
from pathlib import Path

import h5py
import mdtraj
import numpy as np
import pytest
from mdtraj.formats import NetCDFTrajectoryFile
from openmm import app, unit

from mlsim.chem.assembly import assemble
from mlsim.chem.catalog import forcefield_directory
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import Torsions, place_heavy_atoms
from mlsim.chem.readers.positions import made_whole, require_sound
from mlsim.chem.sequence import parse
from mlsim.cli import main as program
from mlsim.deploy.bind import load_forcefield
from mlsim.errors import InputError
from mlsim.md.engines.single import simulate
from mlsim.md.settings import RunSettings
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs import trajectory_file
from mlsim.runs.trajectory import Replica
from mlsim.units import AKMA_PS
from mlsim.workflow.conformations import of_molecule


@pytest.fixture(scope="module")
def pdb(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdb") / "ala2.pdb"
    ala2.to_pdb(path)
    return path


def turned(ala2: Molecule, count: int = 3) -> np.ndarray:
    generator = np.random.default_rng(3)
    return ala2.positions + generator.normal(scale=0.002, size=(count, ala2.n_atoms, 3)) + 2.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 10, "are these nanometres"),
        (lambda x: x * 0.1, "are these nanometres"),
        (lambda x: x * 0, "are these nanometres"),
        (lambda x: x[:, ::-1], "order of the topology"),
        (lambda x: np.where(np.arange(x.shape[1])[None, :, None] == 5, np.nan, x), "no numbers"),
        (lambda x: x + np.where(np.arange(x.shape[1]) < 9, 2.0, 0.0)[None, :, None], "periodic box"),
    ],
    ids=["angstrom", "scaled down", "zeros", "another order", "not a number", "cut by the box"],
)
def test_nonsense_is_refused_with_its_likely_reason(ala2: Molecule, change: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        require_sound(change(turned(ala2)), ala2.bonds, ala2.elements, "traj")  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_sound_conformation_passes(ala2: Molecule) -> None:
    require_sound(turned(ala2), ala2.bonds, ala2.elements, "traj")


@pytest.mark.parametrize("skew", [0.0, 0.7])
def test_a_molecule_cut_by_the_box_is_made_whole(ala2: Molecule, skew: float) -> None:
    box = np.array([[2.0, 0, 0], [skew, 2.0, 0], [skew, -skew, 2.0]])
    x = turned(ala2)
    wrapped = x - np.floor(x @ np.linalg.inv(box)) @ box
    assert np.linalg.norm(np.diff(wrapped, axis=1), axis=-1).max() > 0.5
    whole = made_whole(wrapped, np.repeat(box[None], len(x), axis=0), ala2.bonds)
    inner = whole - whole.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(inner, x - x.mean(axis=1, keepdims=True), atol=1e-9)


def test_names_decide_the_order_not_the_place_in_the_file(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    lines = pdb.read_text().splitlines()
    atoms = [k for k, line in enumerate(lines) if line.startswith(("ATOM", "HETATM"))][6:16]
    moved = dict(zip(atoms, [lines[k] for k in atoms[::-1]], strict=True))  # the alanine backwards
    (tmp_path / "other.pdb").write_text("\n".join(moved.get(k, line) for k, line in enumerate(lines)) + "\n")
    read, _ = of_molecule(tmp_path / "other.pdb", pdb, Molecule.from_pdb(pdb))
    np.testing.assert_allclose(read[0], ala2.positions, atol=1e-3)


def test_a_file_that_lacks_an_atom_is_refused_by_name(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    frames = mdtraj.load(str(pdb))
    frames.atom_slice([k for k in range(ala2.n_atoms) if k != 10]).save_pdb(str(tmp_path / "short.pdb"))
    with pytest.raises(InputError, match=f"no atom {ala2.atom_names[10]}"):
        trajectory_file.load(tmp_path / "short.pdb", pdb)


def test_times_come_from_the_file_or_are_absent(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    x = turned(ala2, 4).astype(np.float32)
    topology = mdtraj.load(str(pdb)).topology
    times = np.array([2.5, 5.0, 7.5, 10.0])
    mdtraj.Trajectory(x, topology, times).save_xtc(str(tmp_path / "a.xtc"))
    mdtraj.Trajectory(x, topology, times).save_pdb(str(tmp_path / "a.pdb"))
    np.testing.assert_allclose(trajectory_file.load(tmp_path / "a.xtc", pdb).time_ps, times)
    np.testing.assert_allclose(trajectory_file.load(tmp_path / "a.xtc", pdb, stride=2).time_ps, times[::2])
    assert trajectory_file.load(tmp_path / "a.pdb", pdb).time_ps is None


def test_the_header_of_a_dcd_file_gives_its_times(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    from openmm import app, unit

    path = tmp_path / "a.dcd"
    with open(path, "wb") as handle:
        file = app.DCDFile(handle, ala2.topology, 4.0 * unit.femtosecond, firstStep=125, interval=125)
        for frame in turned(ala2, 3):
            file.writeModel(frame * unit.nanometer)
    np.testing.assert_allclose(trajectory_file.load(path, pdb).time_ps, [0.5, 1.0, 1.5])
    assert pytest.approx(0.0488882, rel=1e-5) == AKMA_PS


def test_a_header_without_a_time_step_gives_no_times(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    x = turned(ala2, 3).astype(np.float32)
    frames = mdtraj.Trajectory(x, mdtraj.load(str(pdb)).topology, np.array([5.0, 10.0, 15.0]))
    frames.save_dcd(str(tmp_path / "a.dcd"))  # which writes a step of one AKMA unit whatever the times are
    assert trajectory_file.load(tmp_path / "a.dcd", pdb).time_ps is None


@pytest.mark.parametrize("with_times", [True, False])
def test_a_netcdf_file_without_times_gives_none(with_times: bool, ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    times = np.array([5.0, 10.0, 15.0], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*netCDF4")
        file = NetCDFTrajectoryFile(str(tmp_path / "a.nc"), "w")
    with file:
        file.write(turned(ala2, 3).astype(np.float32) * 10, time=times if with_times else None)
    found = trajectory_file.load(tmp_path / "a.nc", pdb).time_ps
    if with_times:
        np.testing.assert_allclose(found, times)
    else:
        assert found is None


@pytest.mark.parametrize("ending", [".rst7", ".ncrst"])
def test_an_amber_restart_file_is_one_frame(ending: str, ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    x = turned(ala2, 1).astype(np.float32)
    mdtraj.Trajectory(x, mdtraj.load(str(pdb)).topology).save(str(tmp_path / f"a{ending}"))
    read, times = of_molecule(tmp_path / f"a{ending}", pdb, Molecule.from_pdb(pdb))
    np.testing.assert_allclose(read, x, atol=1e-5)
    assert times is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)


def in_hdf5(path: Path, x: np.ndarray, topology: mdtraj.Topology, **more: object) -> Path:
    """A trajectory as mdtraj's HDF5 writer lays it out, with an attribute that PyTables would unpickle."""
    chains = [
        {
            "index": chain.index,
            "residues": [
                {
                    "index": residue.index,
                    "name": residue.name,
                    "resSeq": residue.resSeq,
                    "atoms": [{"index": a.index, "name": a.name, "element": a.element.symbol} for a in residue.atoms],
                }
                for residue in chain.residues
            ],
        }
        for chain in topology.chains
    ]
    record = {"chains": chains, "bonds": [[a.index, b.index] for a, b in topology.bonds]}
    with h5py.File(path, "w") as file:
        file["coordinates"] = x.astype(np.float32)
        file["coordinates"].attrs["units"] = more.pop("units", b"nanometers")
        file["topology"] = np.array([json.dumps(record).encode()])
        file.attrs["evil"] = np.bytes_(pickle.dumps(Evil(), 0))
        for name, values in more.items():
            file[name] = values
    return path


def test_an_hdf5_trajectory_is_read_in_the_order_of_its_names_and_runs_nothing(
    ala2: Molecule, pdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = turned(ala2, 4)
    topology = mdtraj.load(str(pdb)).topology
    path = in_hdf5(tmp_path / "a.h5", x, topology, time=np.arange(4) * 0.5)
    read, times = of_molecule(path, pdb, Molecule.from_pdb(pdb), 2)
    np.testing.assert_allclose(read, x[::2], atol=1e-6)
    np.testing.assert_allclose(times, [0.0, 1.0])
    assert of_molecule(in_hdf5(tmp_path / "b.h5", x, topology), pdb, Molecule.from_pdb(pdb))[1] is None
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"units": b"angstroms"}, "coordinates in 'angstroms', expected nanometers"),
        ({"cell_lengths": np.ones((2, 3)), "cell_angles": np.ones((2, 3))}, "cell_lengths"),
    ],
)
def test_an_hdf5_trajectory_of_other_units_or_shapes_is_refused(
    ala2: Molecule, pdb: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = in_hdf5(tmp_path / "a.h5", turned(ala2, 4), mdtraj.load(str(pdb)).topology, **change)
    with pytest.raises(InputError, match=said):
        trajectory_file.load(path, pdb)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match="cannot be read as a trajectory"):
        trajectory_file.load(path, pdb)


def test_names_decide_the_order_in_compressed_files_too(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    lines = pdb.read_text().splitlines()
    oxygen = [k for k, line in enumerate(lines) if line[12:16].strip() == "O"]
    carbon = [k for k, line in enumerate(lines) if line[12:16].strip() == "C"]
    lines[oxygen[0]], lines[carbon[0]] = lines[carbon[0]], lines[oxygen[0]]
    (tmp_path / "other.pdb.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    read, _ = of_molecule(tmp_path / "other.pdb.gz", pdb, Molecule.from_pdb(pdb))
    np.testing.assert_allclose(read[0], ala2.positions, atol=1e-3)


def test_a_placeholder_for_the_box_changes_nothing(ala2: Molecule) -> None:
    x = turned(ala2, 3)
    boxes = np.array([np.zeros((3, 3)), np.eye(3) * 0.1, np.eye(3) * 3.0])
    np.testing.assert_array_equal(made_whole(x, boxes, ala2.bonds), x)


def test_a_cut_molecule_is_refused_where_the_box_has_no_volume(ala2: Molecule) -> None:
    x = turned(ala2, 2)
    x[:, :9] += 2.0
    unchanged = made_whole(x, np.array([np.zeros((3, 3)), np.full((3, 3), np.nan)]), ala2.bonds)
    with pytest.raises(InputError, match="periodic box"):
        require_sound(unchanged, ala2.bonds, ala2.elements, "traj")


def test_a_run_in_a_directory_that_is_not_ascii_is_read(ala2: Molecule, tmp_path: Path) -> None:
    place = tmp_path / "rü ns"
    settings = RunSettings(solvent="vacuum", ns=4e-5, report_ps=0.02, platform="Reference", seed=5)
    simulate(ala2, Vacuum(), settings, place, 5)
    assert Replica(place).positions().shape == (2, 22, 3)


def test_a_path_that_is_not_ascii_is_read(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    place = tmp_path / "rü ns"
    place.mkdir()
    mdtraj.Trajectory(turned(ala2).astype(np.float32), mdtraj.load(str(pdb)).topology).save_xtc(str(tmp_path / "a.xtc"))
    (tmp_path / "a.xtc").rename(place / "ä.xtc")
    assert trajectory_file.load(place / "ä.xtc", pdb).positions.shape == (3, 22, 3)


def test_the_order_of_a_pdb_file_is_kept_as_a_mapping(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    lines = pdb.read_text().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    (tmp_path / "turned.pdb").write_text("\n".join(atoms[::-1]) + "\nEND\n")
    molecule = Molecule.from_pdb(tmp_path / "turned.pdb")
    in_file = np.array([[float(a[c : c + 8]) for c in (30, 38, 46)] for a in atoms[::-1]]) / 10
    np.testing.assert_allclose(molecule.take(in_file), molecule.positions, atol=1e-9)
    field = load_forcefield(forcefield_directory("issnet-ala2")).bind(molecule)
    with pytest.raises(InputError, match="order of the topology"):
        field.evaluate(in_file[None])
    energy, _ = field.evaluate(molecule.take(in_file)[None])
    same, _ = load_forcefield(forcefield_directory("issnet-ala2")).bind(ala2).evaluate(ala2.positions[None])
    assert energy == pytest.approx(same, abs=0.05)  # a PDB file has three decimals


def test_added_hydrogens_have_no_place_in_the_file(pdb: Path, tmp_path: Path) -> None:
    heavy = [line for line in pdb.read_text().splitlines() if line[76:78].strip() != "H"]
    (tmp_path / "heavy.pdb").write_text("\n".join(heavy) + "\n")
    molecule = Molecule.from_pdb(tmp_path / "heavy.pdb")
    assert molecule.file_order is not None
    assert (molecule.file_order < 0).sum() == 12
    with pytest.raises(InputError, match="were added"):
        molecule.take(np.zeros((1, 10, 3)))


def test_a_byte_order_mark_and_foreign_remarks_change_nothing(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    atoms = [line for line in pdb.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    body = "\n".join(atoms).encode()
    (tmp_path / "bom.pdb").write_bytes(b"\xef\xbb\xbf" + body)
    (tmp_path / "latin.pdb").write_bytes(b"REMARK made by Andr\xe9\n" + body)
    for name in ("bom.pdb", "latin.pdb"):
        molecule = Molecule.from_pdb(tmp_path / name)
        np.testing.assert_allclose(molecule.positions, ala2.positions, atol=1e-3)
        assert molecule.file_order is not None
        assert (molecule.file_order >= 0).all()


@pytest.mark.parametrize("verb", ["energy", "encode"])
def test_the_verbs_refuse_a_trajectory_in_other_units(
    verb: str,
    ala2: Molecule,
    pdb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = (ala2.positions[None] * 0.1).astype(np.float32)
    mdtraj.Trajectory(x, mdtraj.load(str(pdb)).topology).save_dcd(str(tmp_path / "a.dcd"))
    how = ["--forcefield", "issnet-ala2"] if verb == "energy" else ["--encoder", "beit-extension-map"]
    output = tmp_path / ("e.csv" if verb == "energy" else "f.npz")
    words = ["mlsim", verb, str(tmp_path / "a.dcd"), "--top", str(pdb), *how, "-o", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "nanometres" in capsys.readouterr().err
    assert not output.exists()


def test_the_topology_may_be_an_mmcif_file(ala2: Molecule, pdb: Path, tmp_path: Path) -> None:
    with open(tmp_path / "ala2.cif", "w") as handle:
        app.PDBxFile.writeFile(ala2.topology, ala2.positions * unit.nanometer, handle)
    frames = trajectory_file.load(pdb, tmp_path / "ala2.cif")
    np.testing.assert_array_equal(frames.positions, trajectory_file.load(pdb, pdb).positions)
    positions, _ = of_molecule(pdb, tmp_path / "ala2.cif", Molecule.from_pdb(tmp_path / "ala2.cif"))
    np.testing.assert_allclose(positions[0], ala2.positions, atol=1e-4)


@pytest.mark.parametrize("name", ["empty.pdb", "text.pdb", "text.cif"])
def test_a_topology_that_is_none_is_one_line(name: str, pdb: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("" if name == "empty.pdb" else "hello\n")
    with pytest.raises(InputError, match=rf"{name}: .*expected a PDB or mmCIF file"):
        trajectory_file.load(pdb, tmp_path / name)


@pytest.mark.parametrize("verb", ["run", "exchange", "reference", "label", "energy"])
def test_a_structure_that_build_refuses_is_refused_by_every_verb(
    verb: str, ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = parse("ACE-ALA-NME")
    turned_ = place_heavy_atoms(sequence, [Torsions(), Torsions(), Torsions(omega=0.0)])
    path = str(tmp_path / "cis.pdb")
    Molecule.create("cis", *assemble("cis", sequence, turned_)).to_pdb(path)
    options = {
        "run": [path, "--solvent", "vacuum", "--ns", "0.001"],
        "exchange": [path, "--solvent", "vacuum", "--ns", "0.001", "--temperatures", "300,350"],
        "reference": [path, "--ns", "0.001"],
        "label": [path, "--system", path, "--top", path],
        "energy": [path, "--top", path, "--forcefield", "issnet-ala2"],
    }[verb]
    monkeypatch.setattr(sys, "argv", ["mlsim", verb, *options, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "cis.pdb: peptide bonds: not trans" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_warning_of_the_program_is_its_words_alone(
    ala2: Molecule, pdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    water = "HETATM   23  O   HOH B   1      50.000  50.000  50.000  1.00  0.00           O"
    atoms = [line for line in pdb.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    (tmp_path / "wet.pdb").write_text("\n".join([*atoms, water, "END"]))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # the program sets its own
    monkeypatch.setattr(sys, "argv", ["mlsim", "build", str(tmp_path / "wet.pdb"), "-o", str(tmp_path / "out")])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", _shown)
        with pytest.raises(SystemExit) as ended:
            program.main()
    assert ended.value.code == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == [f"warning: {tmp_path}/wet.pdb: 1 water molecules left out (solvent is added by the run)"]


def _shown(message: Warning, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)

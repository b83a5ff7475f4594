"""Trajectories in mdtraj's HDF5 format, read with h5py.

Why not with mdtraj: it reads through PyTables, which unpickles attributes, so that opening a file of somebody else
could run code. The format (MDTraj HDF5, convention ``Pande``):

    coordinates                 [F, N, 3] nm
    time                        [F] ps, optional
    cell_lengths, cell_angles   [F, 3] nm and degrees, both or neither
    topology                    one text: chains, residues, atoms and bonds as JSON
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsim import limits

if TYPE_CHECKING:
    import mdtraj

#: Units that a dataset may state (as it is written by mdtraj); others are refused.
_UNITS = {
    "coordinates": ("nanometers", "nanometer", "nm"),
    "time": ("picoseconds", "picosecond", "ps"),
    "cell_lengths": ("nanometers", "nanometer", "nm"),
    "cell_angles": ("degrees", "degree", "deg"),
}


def read(path: Path, stride: int = 1) -> tuple[mdtraj.Trajectory, bool]:
    """Every ``stride``-th frame, and whether the file says their times.

    Raises
    ------
    ValueError, KeyError, OSError
        If it is no such file, declares more than the limits allow, or has other units.
    """
    import h5py
    import mdtraj

    limits.require_plain(path)
    with h5py.File(path, "r") as file:
        arrays = limits.datasets(file, _UNITS)
        for name in arrays:
            unit = _text(file[name].attrs.get("units", _UNITS[name][0]))
            if unit not in _UNITS[name]:
                raise ValueError(f"{name} in '{unit}', expected {_UNITS[name][0]}")
        topology = _topology(json.loads(_topology_text(file)))
    if "coordinates" not in arrays:
        raise ValueError("no coordinates in it, expected a trajectory in mdtraj's HDF5 format")
    xyz = np.asarray(arrays["coordinates"], dtype=np.float32)
    frames = len(xyz) if xyz.ndim == 3 else -1
    if xyz.shape != (frames, topology.n_atoms, 3):
        raise ValueError(f"coordinates {list(xyz.shape)} of a topology with {topology.n_atoms} atoms")
    whole: dict[str, Any] = {"xyz": xyz[::stride], "topology": topology}
    timed = arrays.get("time", np.zeros(0)).shape == (frames,)
    if timed:
        whole["time"] = arrays["time"][::stride]
    if {"cell_lengths", "cell_angles"} <= arrays.keys():
        for ours, name in (("unitcell_lengths", "cell_lengths"), ("unitcell_angles", "cell_angles")):
            if arrays[name].shape != (frames, 3):
                raise ValueError(f"{name} {list(arrays[name].shape)} of {frames} frames")
            whole[ours] = arrays[name][::stride]
    return mdtraj.Trajectory(**whole), timed


def _topology_text(file: Any) -> str:
    dataset = file.get("topology") if type(file.get("topology", getlink=True)).__name__ == "HardLink" else None
    if dataset is None or getattr(dataset, "size", 0) != 1 or dataset.external or dataset.is_virtual:
        raise ValueError("no topology in it, expected a trajectory in mdtraj's HDF5 format")
    if dataset.dtype.kind == "S":  # otherwise the text lies in the file, uncompressed, as long as it is
        limits.require_size(dataset.dtype.itemsize, 0)
    return _text(np.asarray(dataset[()]).reshape(-1)[0])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _topology(record: dict[str, Any]) -> mdtraj.Topology:
    import mdtraj

    topology = mdtraj.Topology()
    for chain_record in sorted(record["chains"], key=lambda entry: entry["index"]):
        chain = topology.add_chain()
        for residue_record in sorted(chain_record["residues"], key=lambda entry: entry["index"]):
            number, name = residue_record.get("resSeq"), str(residue_record["name"])
            residue = topology.add_residue(name, chain, resSeq=None if number is None else int(number))
            for atom in sorted(residue_record["atoms"], key=lambda entry: entry["index"]):
                topology.add_atom(str(atom["name"]), _element(str(atom["element"])), residue)
    atoms = list(topology.atoms)
    for first, second in record["bonds"]:
        topology.add_bond(atoms[int(first)], atoms[int(second)])
    return topology


def _element(symbol: str) -> Any:
    from mdtraj.core import element

    try:
        return element.get_by_symbol(symbol)
    except KeyError:
        return element.virtual

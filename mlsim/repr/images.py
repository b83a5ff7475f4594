"""Conformations as square images in [0, 1], the inputs of image encoders.

    distance map    x_ij = 1 - exp(-d_ij / s)                    s -> ``scale_nm``
    contact map     x_ij = 1 / (1 + exp((d_ij - c) / w))         c -> ``cutoff_nm``, w = 0.03 nm
    extension map   x_ij = (d_ij - lo) / (b n_ij - lo)           cut to [0, 1]; 0 for n_ij < 3
                    n_ij bonds between i and j, b = 0.132 nm, lo = 0.24 nm

d_ij is the distance of atoms i and j in nm. Every map is symmetric, unchanged by rotation and translation, and sees the
handedness of a torsion through the handed side chains. The extension map places a distance between contact and the
stretched chain (b n: all torsions trans), and leaves out what bonds and angles fix; what is left is conformation. In a
plain distance map most of the contrast says which atoms are neighbours in the chain, which never changes.

Maps of N atoms are brought to the side that an encoder wants by linear interpolation (N smaller) or by averaging over
areas (N larger). :func:`prepare` follows the ``InputSettings`` that an encoder was trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.repr.encoder import InputSettings
from mlsim.shapes import Floats, require_shape

if TYPE_CHECKING:
    import mdtraj

#: Softness of a contact, nm.
CONTACT_WIDTH = 0.03
#: Length of a stretched chain per bond and distance of non-bonded contact, nm.
STRETCHED, CONTACT = 0.132, 0.24
_BACKBONE = {"N", "CA", "C", "O"}
_CAP_CARBONS = {"CH3"}
_CHUNK = 4096


def distance_map(positions: Floats, *, size: int, scale_nm: float = 0.5) -> NDArray[np.float32]:
    """Distance maps.

    Parameters
    ----------
    positions : [F, N, 3], nm
        Of the atoms that the map is of, in chain order.
    size : int
        Side of the images.
    scale_nm : float
        Distance that becomes 1 - 1/e.

    Returns
    -------
    float32 [F, size, size]
    """
    return _maps(positions, size, lambda d: 1.0 - np.exp(-d / scale_nm))


def contact_map(positions: Floats, *, size: int, cutoff_nm: float = 0.45) -> NDArray[np.float32]:
    """Smooth contact maps, float32 [F, size, size], of positions [F, N, 3] (nm); 1/2 at the cutoff."""
    # the diagonal is in contact; large exponents overflow to a plain zero
    return _maps(positions, size, lambda d: 1.0 / (1.0 + np.exp(np.minimum((d - cutoff_nm) / CONTACT_WIDTH, 60.0))))


def extension_map(positions: Floats, bonds: NDArray[np.int64], *, size: int) -> NDArray[np.float32]:
    """Distances between contact (0) and a stretched chain (1).

    Parameters
    ----------
    positions : [F, N, 3], nm
    bonds : int [N, N]
        Number of bonds between two atoms, see :func:`bond_counts`; 0 on the diagonal.
    size : int

    Returns
    -------
    float32 [F, size, size]

    Raises
    ------
    InputError
        If ``bonds`` does not fit the positions.
    """
    atoms = np.asarray(positions).shape[1]
    between = np.asarray(require_shape(bonds, (atoms, atoms), "bonds between atoms"))
    if (between + np.eye(atoms) <= 0).any():
        raise InputError("extension map: expected every two atoms to be connected by bonds; use a distance map")
    free = between >= 3
    span = np.where(free, between * STRETCHED - CONTACT, 1.0)
    return _maps(positions, size, lambda d: np.where(free, np.clip((d - CONTACT) / span, 0.0, 1.0), 0.0))


def square(images: Floats) -> NDArray[np.float32]:
    """Pad images [n, h, w] or [n, c, h, w] with zeros at the bottom or the right until they are square."""
    values = np.asarray(images, dtype=np.float32)
    if values.ndim not in (3, 4):
        raise InputError(f"images: expected [n, h, w] or [n, c, h, w], got {list(values.shape)}")
    height, width = values.shape[-2:]
    side = max(height, width)
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + [(0, side - height), (0, side - width)])


def resize(images: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Square images [n, h, h] to [n, size, size]: linear between pixel centres if larger, area means if smaller."""
    x = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None]
    if x.shape[-1] == size:
        return x[:, 0].numpy()
    if x.shape[-1] > size:
        return torch.nn.functional.adaptive_avg_pool2d(x, size)[:, 0].numpy()
    return torch.nn.functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)[:, 0].numpy()


def prepare(positions: Floats, topology: mdtraj.Topology, settings: InputSettings) -> NDArray[np.float32]:
    """The inputs that an encoder with these settings wants, from a trajectory.

    Parameters
    ----------
    positions : [F, N, 3], nm
        All atoms of the topology, molecule whole.
    topology : mdtraj.Topology
    settings : InputSettings
        Of the encoder.

    Returns
    -------
    float32 [F, size, size] for maps, [F, n(n-1)/2] (nm) for distances, [F, 2 k] (cosines, then sines) for torsions

    Raises
    ------
    InputError
        If the selection holds fewer than three atoms, or the encoder does not take conformations.
    """
    x = require_shape(positions, (None, topology.n_atoms, 3), "positions (nm)")
    if settings.kind == "torsions":
        return backbone_torsions(x, topology)
    chosen = select(topology, settings.atoms)
    part = x[:, chosen]
    if settings.kind == "distances":
        return pair_distances(part)
    if settings.kind == "distance-map":
        return distance_map(part, size=settings.size, scale_nm=settings.scale_nm)
    if settings.kind == "contact-map":
        return contact_map(part, size=settings.size, cutoff_nm=settings.cutoff_nm)
    if settings.kind == "extension-map":
        return extension_map(part, bond_counts(topology)[np.ix_(chosen, chosen)], size=settings.size)
    raise InputError(f"this encoder takes inputs of kind '{settings.kind}', not conformations; call encode with them")


def select(topology: mdtraj.Topology, atoms: str) -> NDArray[np.int64]:
    """Indices of the ``heavy``, ``backbone`` (caps included), ``ca`` or ``all`` atoms.

    Raises
    ------
    InputError
        If fewer than three are found.
    """
    tests = {
        "all": lambda a: True,
        "heavy": lambda a: a.element is not None and a.element.symbol != "H",
        "backbone": lambda a: a.name in _BACKBONE or (a.residue.name in ("ACE", "NME") and a.name in _CAP_CARBONS),
        "ca": lambda a: a.name == "CA",
    }
    chosen = np.array([a.index for a in topology.atoms if tests[atoms](a)], dtype=np.int64)
    if len(chosen) < 3:
        raise InputError(f"atoms: expected at least three '{atoms}' atoms in the topology, got {len(chosen)}")
    return chosen


def bond_counts(topology: mdtraj.Topology) -> NDArray[np.int64]:
    """Bonds on the shortest covalent path between every two atoms [N, N]; 0 where there is none."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import shortest_path

    pairs = np.array([(a.index, b.index) for a, b in topology.bonds], dtype=np.int64).reshape(-1, 2)
    n = topology.n_atoms
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    steps = shortest_path(graph, directed=False, unweighted=True)
    return np.where(np.isfinite(steps), steps, 0).astype(np.int64)


def pair_distances(positions: Floats) -> NDArray[np.float32]:
    """Distances of all pairs i < j, nm [F, n(n-1)/2]."""
    first, second = np.triu_indices(np.asarray(positions).shape[1], k=1)
    parts = [
        np.linalg.norm(part[:, first] - part[:, second], axis=-1).astype(np.float32)
        for part in _chunks(np.asarray(positions))
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(first)), dtype=np.float32)


def backbone_torsions(positions: Floats, topology: mdtraj.Topology) -> NDArray[np.float32]:
    """Cosines of all phi and psi, then their sines [F, 2 k].

    Raises
    ------
    InputError
        If the topology has none.
    """
    import mdtraj

    trajectory = mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), topology)
    angles = np.concatenate([mdtraj.compute_phi(trajectory)[1], mdtraj.compute_psi(trajectory)[1]], axis=1)
    if angles.shape[1] == 0:
        raise InputError("torsions: expected a peptide with phi or psi, found none in the topology")
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _chunks(positions: NDArray[Any]) -> list[NDArray[Any]]:
    return [positions[k : k + _CHUNK] for k in range(0, len(positions), _CHUNK)]


def _maps(positions: Floats, size: int, pixel: Any) -> NDArray[np.float32]:
    x = require_shape(positions, (None, None, 3), "positions (nm)")
    if x.shape[1] < 2:
        raise InputError(f"positions: expected at least two atoms, got {x.shape[1]}")
    parts = []
    for part in _chunks(x):
        distance = np.linalg.norm(part[:, :, None] - part[:, None, :], axis=-1)
        parts.append(resize(pixel(distance), size))
    return np.concatenate(parts) if parts else np.zeros((0, size, size), dtype=np.float32)

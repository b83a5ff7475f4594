"""The region of conformations that a model was trained on, and how far outside of it a conformation is.

A network is an interpolation; outside of its data its forces are inventions that look like any others. The distance is
that to the nearest of some landmarks, in scaled distances between heavy atoms:

    z_p(r) = d_p(r) / s_p       s_p: standard deviation of d_p over the training frames; pairs with s_p > 0.01 nm
    D(r) = min_l sqrt( mean_p (z_p(r) - z_p(l))^2 )

Pairs that do not vary (bonds, angles, rings) are kept in shape by molecular mechanics and tell nothing. The
landmarks cover the training frames (:mod:`mlsim.dataset.spread`). A conformation is outside if D is larger than for
99.9 % of the held-out frames: one in a thousand frames of the training ensemble is outside by definition, and ten times
that says that the run goes where the data did not.

Why not a Mahalanobis distance: torsions have several basins, and the one ellipsoid around all of them holds much that
was never seen. Why not the spread of a committee: it costs several models. (It can be had: ``mlsim committee``.)

Symbols: d ``pairs``' distances, s ``scale``, l ``landmarks``, D :meth:`TrainedRegion.distance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.spread import farthest
from mlsim.errors import InputError, MissingError
from mlsim.files import write_npz
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats

FILE = "guard.npz"
#: Share of the held-out frames that counts as inside.
INSIDE = 0.999
#: Most landmarks, pairs, and frames looked at.
MOST_LANDMARKS, MOST_PAIRS, MOST_FRAMES = 400, 128, 20_000
#: A pair varies if its standard deviation is above this, nm.
_VARIES_NM = 0.01
#: Largest file that is read, bytes unpacked.
_LARGEST = 64 * limits.MEGABYTE


@dataclass(frozen=True, eq=False)
class TrainedRegion:
    """Landmarks of the training frames and the distance that is still inside.

    Attributes
    ----------
    molecule_digest : str
    n_atoms : int
    pairs : int64 [P, 2]
    scale : float64 [P], nm
    landmarks : float32 [L, P]
        Scaled distances.
    threshold : float
        Distance D beyond which a conformation is outside.
    """

    molecule_digest: str
    n_atoms: int
    pairs: NDArray[np.int64]
    scale: NDArray[np.float64]
    landmarks: NDArray[np.float32]
    threshold: float
    column: ClassVar[str] = "distance"
    what: ClassVar[str] = "the trained region"

    @classmethod
    def of(cls, train: ForceFrames, held_out: ForceFrames, seed: int) -> TrainedRegion:
        """The region of ``train``, with the threshold from ``held_out``.

        Parameters
        ----------
        seed : int
            Root seed of the choices among many pairs and frames.
        """
        generator = numpy_stream(seed, "dataset.region")
        positions = np.asarray(train.positions, dtype=np.float64)
        if len(positions) > MOST_FRAMES:
            positions = positions[np.sort(generator.choice(len(positions), MOST_FRAMES, replace=False))]
        heavy = [k for k, element in enumerate(train.elements) if element != "H"]
        atoms = heavy if len(heavy) > 1 else list(range(train.n_atoms))
        pairs = np.array([(i, j) for a, i in enumerate(atoms) for j in atoms[a + 1 :]], dtype=np.int64).reshape(-1, 2)
        spread = _distances(positions, pairs).std(axis=0)
        varying = np.flatnonzero(spread > _VARIES_NM)
        if len(varying) > MOST_PAIRS:
            varying = np.sort(generator.choice(varying, MOST_PAIRS, replace=False))
        pairs, scale = pairs[varying], spread[varying]
        points = _distances(positions, pairs) / scale
        chosen = farthest(points, min(MOST_LANDMARKS, len(points)), seed)
        region = cls(train.molecule_digest, train.n_atoms, pairs, scale, points[chosen].astype(np.float32), 0.0)
        inside = np.quantile(region.distance(held_out.positions), INSIDE, method="higher")
        return cls(region.molecule_digest, region.n_atoms, pairs, scale, region.landmarks, float(inside))

    def distance(self, positions: Floats) -> NDArray[np.float64]:
        """Distances D [F] of conformations [F, N, 3] (nm) to the nearest landmark."""
        if len(self.pairs) == 0:
            return np.zeros(len(positions))
        z = _distances(np.asarray(positions, dtype=np.float64), self.pairs) / self.scale
        marks = self.landmarks.astype(np.float64)
        found = np.empty(len(z))
        for k, one in enumerate(z):
            found[k] = ((marks - one) ** 2).mean(axis=1).min()
        return np.asarray(np.sqrt(found))

    def _require_sound(self) -> None:
        """Raise ValueError unless the arrays fit each other and the molecule, and are finite."""
        n, marks = len(self.pairs), self.landmarks
        if self.pairs.shape != (n, 2) or self.scale.shape != (n,) or marks.ndim != 2 or marks.shape[1] != n:
            raise ValueError("pairs, scales and landmarks do not fit each other")
        if self.pairs.dtype.kind != "i" or (n and not 0 <= self.pairs.min() <= self.pairs.max() < self.n_atoms):
            raise ValueError(f"pairs of other atoms than the {self.n_atoms} of the molecule")
        if not (np.isfinite(self.scale).all() and (self.scale > 0.0).all() and np.isfinite(marks).all()):
            raise ValueError("scales or landmarks that are not finite")

    def save(self, path: Path) -> None:
        """Write ``guard.npz`` (tens of kB), whole or not at all.

        Raises
        ------
        StorageError
        """
        arrays = {
            "molecule_digest": np.array(self.molecule_digest),
            "n_atoms": np.array(self.n_atoms),
            "pairs": self.pairs,
            "scale": self.scale,
            "landmarks": self.landmarks,
            "threshold": np.array(self.threshold),
        }
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: Path) -> TrainedRegion:
        """Read a file of :meth:`save` (numbers only, no pickle).

        Raises
        ------
        MissingError, InputError
        """
        if not path.is_file():
            raise MissingError(f"{path}: no such file; expected the trained region of a force field")
        try:
            found = limits.arrays(path, _LARGEST)
            region = cls(
                str(found["molecule_digest"]),
                int(found["n_atoms"]),
                found["pairs"],
                found["scale"],
                found["landmarks"],
                float(found["threshold"]),
            )
            region._require_sound()
            return region
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a trained region ({error}); export the force field again") from None


def _distances(positions: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """[F, P], nm, frame by block so that memory stays small."""
    found = np.empty((len(positions), len(pairs)))
    for start in range(0, len(positions), 2000):
        part = positions[start : start + 2000]
        found[start : start + 2000] = np.linalg.norm(part[:, pairs[:, 0]] - part[:, pairs[:, 1]], axis=2)
    return found

"""Reporter: the files of one trajectory, and the check that every frame passes before it is written.

::

    DIRECTORY/topology.pdb  trajectory.xtc  log.csv        last_good.pdb (after a failure)

Frame k of the trajectory is row k of the log. Whoever moves the atoms, one run, one of several copies in a Context or
one temperature of an exchange, reports here.
"""

from __future__ import annotations

from pathlib import Path

from mlsim.chem.molecule import Molecule
from mlsim.files import make_directory, storage
from mlsim.md.coordinates import CoordinateStream
from mlsim.md.settings import Recorded
from mlsim.md.stability import Snapshot, StabilityCheck
from mlsim.runs.streams import TableStream
from mlsim.runs.trajectory import COLUMNS

LAST_GOOD = "last_good.pdb"


class Reporter:
    """Writes frames and log rows of one trajectory.

    Parameters
    ----------
    directory : Path
        Of this trajectory.
    molecule : Molecule
        What moves; its solute is written.
    check : StabilityCheck
        Accepts a snapshot or raises.
    settings : Recorded
    """

    def __init__(self, directory: Path, molecule: Molecule, check: StabilityCheck, settings: Recorded) -> None:
        self.directory, self.check = directory, check
        self._molecule, self._settings = molecule, settings

    def begin(self) -> None:
        """Make the directory of a new run, and write its topology."""
        make_directory(self.directory)
        with storage(self.directory):
            self._molecule.solute_molecule().to_pdb(self.directory / "topology.pdb")

    def open(self) -> None:
        """Open trajectory and log for appending."""
        settings = self._settings
        frame_ps = settings.report_steps * settings.timestep_ps
        with storage(self.directory):
            path = self.directory / f"trajectory.{settings.format}"
            self.frames = CoordinateStream(path, self._molecule.solute_molecule().topology, frame_ps)
            self.log = TableStream(self.directory / "log.csv", COLUMNS)

    def report(self, snapshot: Snapshot, bias: float) -> None:
        """Write one frame and its log row.

        Parameters
        ----------
        snapshot : Snapshot
            Its potential energy is without the bias.
        bias : float
            Energy of the bias, kJ/mol.

        Raises
        ------
        UnphysicalError
            If the numbers can no longer be trusted; nothing is written then.
        """
        self.check.accept(snapshot)
        time_ps = snapshot.step * self._settings.timestep_ps
        temperature = self.check.temperature(snapshot.kinetic)
        with storage(self.directory):
            self.frames.append(snapshot.positions[: len(self._molecule.solute)])
            self.log.append((snapshot.step, time_ps, snapshot.potential, snapshot.kinetic, temperature, bias))

    def save_last_good(self) -> int | None:
        """Write the last good state; its step, or None if there was none."""
        return self.check.save_last_good(self.directory / LAST_GOOD)

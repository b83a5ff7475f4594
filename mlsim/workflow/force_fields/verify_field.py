"""Check that every way to compute a force field gives the same, right numbers, and write that into its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.verify import VerifyReport, with_own_program
from mlsim.deploy.verify import verify as examine
from mlsim.errors import StorageError


@dataclass(frozen=True, eq=False)
class Verified:
    """A force field after its checks.

    Attributes
    ----------
    artifact : ForceFieldArtifact
        With the verification in its card, unless it could not be written or was of another molecule.
    report : VerifyReport
        The checks, each with value, bound and unit; ``report.passed`` if all hold.
    replaced : tuple of str
        Parts in which ``model.pt`` was not the program of the weights and settings; it was then made anew. The one that
        was there is never run.
    unwritten : str or None
        Why the card was not changed, if it should have been.
    """

    artifact: ForceFieldArtifact
    report: VerifyReport
    replaced: tuple[str, ...] = ()
    unwritten: str | None = None


def verify(forcefield: str | Path, system: str | Path | None = None) -> Verified:
    """Check a force field; a force field whose checks fail cannot be used.

    Parameters
    ----------
    forcefield : str or Path
        Name of a force field, or its directory.
    system : str or Path, optional
        Check it on this molecule; the card is then left as it is.

    Returns
    -------
    Verified

    Raises
    ------
    MissingError, ArtifactError
        If there is no such force field, or its files are not what the card says.
    """
    artifact = ForceFieldArtifact.read(forcefield_directory(forcefield))
    if system is not None:
        return Verified(artifact, examine(artifact, load_system(system)))
    replaced: list[str] = []
    try:
        artifact, replaced = with_own_program(artifact)
        report = examine(artifact, None)
        return Verified(artifact.with_verification(report.record()), report, tuple(replaced))
    except StorageError as error:
        return Verified(artifact, examine(artifact, None), tuple(replaced), str(error))

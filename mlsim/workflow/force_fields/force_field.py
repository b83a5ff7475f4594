"""Force fields by name, for scripts: ``mlsim.load_forcefield("issnet-ala2").bind(molecule).evaluate(positions)``."""

from __future__ import annotations

from mlsim.chem.catalog import forcefield_directory
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bind import load_forcefield as load_directory


def load_forcefield(name: str) -> ForceField:
    """Load a shipped or local force field.

    Parameters
    ----------
    name : str
        Name in the search path (``mlsim doctor`` lists them) or a directory.

    Raises
    ------
    MissingError
        If no force field is called so.
    ArtifactError
        If it is broken or was not verified.
    """
    return load_directory(forcefield_directory(name))

"""One verb for every fit of a solvent: what is fitted is said by the class of its settings.

IssnetSettings            the solvent of one molecule, to forces          mlsim train issnet
PopulationsSettings       its populations, in a second stage              mlsim train populations
PeptideSolventSettings    one solvent for any peptide                     mlsim train peptides
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

from mlsim.errors import InputError
from mlsim.workflow.training.fit_settings import IssnetSettings, PopulationsSettings
from mlsim.workflow.training.peptide_settings import PeptideSolventSettings
from mlsim.workflow.training.peptide_solvent_fit import SetFit, train_peptides
from mlsim.workflow.training.solvent_fits import SolventFit, train_issnet, train_populations

Data = str | Path | Sequence[str | Path]


@overload
def train(
    data: Data,
    directory: str | Path,
    settings: IssnetSettings | PopulationsSettings | None = None,
    start: Literal["new", "resume"] = "new",
    progress: Literal["auto", "off"] = "auto",
) -> SolventFit: ...


@overload
def train(
    data: Data,
    directory: str | Path,
    settings: PeptideSolventSettings,
    start: Literal["new", "resume"] = "new",
    progress: Literal["auto", "off"] = "auto",
) -> SetFit: ...


def train(
    data: Data,
    directory: str | Path,
    settings: IssnetSettings | PopulationsSettings | PeptideSolventSettings | None = None,
    start: Literal["new", "resume"] = "new",
    progress: Literal["auto", "off"] = "auto",
) -> SolventFit | SetFit:
    """Fit a learned solvent to force data.

    Parameters
    ----------
    data : path or sequence of path
        Force frames (HDF5): positions [F, N, 3] in nm, forces [F, N, 3] in kJ/mol/nm; several files of one molecule are
        joined. For :class:`PeptideSolventSettings` the directory of packed frames of many peptides.
    directory : str or Path
        Training directory of the result; ``mlsim.export`` makes it a force field.
    settings : IssnetSettings, PopulationsSettings or PeptideSolventSettings, optional
        What is fitted, and how; an ISSNet if it is not given.
    start : {"new", "resume"}
        ``resume`` continues an interrupted fit under the same settings.
    progress : {"auto", "off"}
        Whether a bar is shown on a terminal.

    Returns
    -------
    SolventFit or SetFit
        The model, its directory, and errors with intervals on what it has not seen.

    Raises
    ------
    MissingError, InputError, SettingsError
        No such data, or of several molecules or conditions.
    OccupiedError, CheckpointError
        A directory that holds another fit.
    UnphysicalError
        If the loss is not finite.
    """
    paths = [Path(data)] if isinstance(data, str | Path) else [Path(path) for path in data]
    chosen, place = settings or IssnetSettings(), Path(directory)
    if isinstance(chosen, IssnetSettings):
        return train_issnet(paths, place, chosen, start, progress)
    if isinstance(chosen, PopulationsSettings):
        return train_populations(paths, place, chosen, start, progress)
    if len(paths) != 1:
        raise InputError(f"expected one directory of packed frames, got {len(paths)} paths; see mlsim data pack")
    return train_peptides(paths[0], place, chosen, progress, start)

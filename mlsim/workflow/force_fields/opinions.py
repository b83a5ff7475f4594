"""Mean and spread of several force fields on conformations, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsim.deploy.committee import Opinion
from mlsim.files import make_directory, write_text
from mlsim.workflow.conformations import Conformations
from mlsim.workflow.training.refine import committee


def write_opinions(
    conformations: Conformations, names: Sequence[str], system: str, output: str | Path, threads: int = 1
) -> Opinion:
    """What a committee says of every conformation, written as CSV.

    Parameters
    ----------
    conformations : Conformations
        F of them.
    names : sequence of str
        Force fields, by name or directory; two or more.
    system : str
        Molecule of the conformations.
    output : str or Path
        Table with the columns ``frame,run,time_ps,energy_kJ_mol,energy_spread_kJ_mol,force_spread_kJ_mol_nm``.

    Returns
    -------
    Opinion
        Mean energies [F] and their spread (kJ/mol), spread of the forces [F] (kJ/mol/nm).

    Raises
    ------
    MissingError, InputError, ArtifactError
        If a force field is not there, broken, or of another molecule.
    """
    output = Path(output)
    opinion = committee(names, system).evaluate(conformations.positions, threads)
    columns = (
        conformations.run,
        conformations.time_ps,
        opinion.energies,
        opinion.energy_spread,
        opinion.force_spread,
    )
    text = "frame,run,time_ps,energy_kJ_mol,energy_spread_kJ_mol,force_spread_kJ_mol_nm\n"
    rows = enumerate(zip(*columns, strict=True))
    text += "".join(f"{k},{r},{t:.6g},{e:.6f},{se:.6f},{sf:.6f}\n" for k, (r, t, e, se, sf) in rows)
    make_directory(output.parent)
    write_text(output, text)
    return opinion

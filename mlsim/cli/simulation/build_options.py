"""``mlsim build`` and ``mlsim systems``: make a simulation-ready peptide, and list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("build")(build)
    app.command("systems")(systems)


def build(
    source: Annotated[
        str,
        typer.Argument(metavar="SEQUENCE|FILE", help="ACE-ALA-NME, YYDPETGTWY, or a PDB or mmCIF file of one peptide."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="New directory for structure.pdb and system.yaml.")],
) -> None:
    """Build a peptide from its sequence (ff14SB, pH 7), or from a PDB or mmCIF file; check it and write it."""
    from mlsim.workflow.simulation.build import build as make

    made = make(source, output)
    molecule = made.molecule
    typer.echo(f"{made.record.sequence}: {molecule.n_atoms} atoms, charge {round(float(molecule.charges.sum()))} e")
    for line in made.report.lines():
        typer.echo(f"  {line}")
    typer.echo(f"wrote {output}/structure.pdb and {output}/system.yaml")
    typer.echo(f"next: mlsim run {output} --solvent gbn2 --ns 0.1 -o runs/{made.record.name}")


def systems() -> None:
    """List the systems that can be given by name."""
    from mlsim.workflow.simulation.build import systems as known

    entries = known()
    width = max((len(e.directory.name) for e in entries), default=0)
    for entry in entries:
        learned = entry.record.default_forcefield or "none"
        typer.echo(f"{entry.directory.name:<{width}}  {entry.record.sequence}  (issnet: {learned})")
        typer.echo(f"{'':<{width}}  {entry.record.description}")
    if not entries:
        typer.echo("no systems found; make one with: mlsim build ACE-ALA-NME -o ala2/")

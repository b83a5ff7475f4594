"""``mlsim build`` and ``mlsim systems``: make a simulation-ready peptide, and list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file to the command line."""
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
    from mlsim.chem import catalog, checks, peptide
    from mlsim.chem.readers.atom_records import is_structure_file
    from mlsim.chem.readers.system_directory import SystemRecord, write_system
    from mlsim.chem.sequence import parse
    from mlsim.chem.templates import sequence_of
    from mlsim.files import require_free

    require_free(output)
    catalog.refuse_other_files(source)
    if is_structure_file(source):
        molecule = catalog.read_structure(source)
        sequence = sequence_of(molecule.topology)
        origin = f"read from {Path(source).name}; missing hydrogens added at pH 7, not minimised"
    else:
        sequence = parse(source)
        molecule = peptide.build(source)
        origin = "built from the sequence as an extended chain and minimised; not an experimental structure"
    report = checks.check(molecule)
    name = output.resolve().name
    record = SystemRecord(
        name=name,
        sequence=sequence.text,
        description=f"{sequence.text}, {molecule.n_atoms} atoms",
        origin=origin,
        default_forcefield=catalog.forcefield_for(sequence),
    )
    write_system(molecule, record, output)
    typer.echo(f"{sequence.text}: {molecule.n_atoms} atoms, charge {round(float(molecule.charges.sum()))} e")
    for line in report.lines():
        typer.echo(f"  {line}")
    typer.echo(f"wrote {output}/structure.pdb and {output}/system.yaml")
    typer.echo(f"next: mlsim run {output} --solvent gbn2 --ns 0.1 -o runs/{name}")


def systems() -> None:
    """List the systems that can be given by name."""
    from mlsim.chem import catalog

    entries = catalog.systems()
    width = max((len(e.directory.name) for e in entries), default=0)
    for entry in entries:
        learned = entry.record.default_forcefield or "none"
        typer.echo(f"{entry.directory.name:<{width}}  {entry.record.sequence}  (issnet: {learned})")
        typer.echo(f"{'':<{width}}  {entry.record.description}")
    if not entries:
        typer.echo("no systems found; make one with: mlsim build ACE-ALA-NME -o ala2/")

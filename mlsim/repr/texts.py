"""Texts for text encoders that are not lying about as files: abstracts from a PubMed export, and what a run did.

``mlsim.repr.quip.tasks.library`` reads folders of plain texts and PDB remarks; this file makes texts where there are
none:

    abstracts(path)      a MEDLINE export (.nbib or .txt: tagged fields PMID, TI, AB) -> one text per article
    run_report(run)      run.json and log.csv of ``mlsim run``                        -> sentences with the numbers

so that ``PhraseIndex`` can answer "At what temperature was the tripeptide run?" beside questions to the literature.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np

from mlsim import limits
from mlsim.errors import InputError, MissingError

_TAG = re.compile(r"^([A-Z]{2,4}) *- (.*)$")


def abstracts(path: str | Path) -> dict[str, str]:
    """Title and abstract of every article of a MEDLINE export, by PMID.

    Parameters
    ----------
    path : str or Path
        File with lines ``PMID- 123``, ``TI  - ...``, ``AB  - ...``; continuation lines are indented.

    Returns
    -------
    dict of str to str
        PMID -> "Title Abstract"; articles without an abstract are left out.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If no abstract is in it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a MEDLINE export")
    found: dict[str, str] = {}
    for article in re.split(r"\n(?=PMID- )", limits.text(path)):
        fields: dict[str, list[str]] = {}
        current: list[str] | None = None
        for line in article.splitlines():
            tagged = _TAG.match(line)
            if tagged is not None:
                current = fields.setdefault(tagged[1], [])
                current.append(tagged[2].strip())
            elif line.startswith("      ") and current is not None:
                current.append(line.strip())
        if "AB" in fields and "PMID" in fields:
            found[fields["PMID"][0]] = " ".join([*fields.get("TI", []), *fields["AB"]])
    if not found:
        raise InputError(f"{path}: no abstract in it; expected MEDLINE fields PMID, TI, AB (export format 'PubMed')")
    return found


def run_report(directory: str | Path) -> list[str]:
    """Sentences about a run of ``mlsim run``: what was simulated, how, and what the log says.

    Parameters
    ----------
    directory : str or Path
        Run directory; replicas are reported one by one.

    Raises
    ------
    MissingError
        If it is no run directory.
    InputError
        If its record cannot be read.
    """
    directory = Path(directory)
    record = directory / "run.json"
    if not record.is_file():
        raise MissingError(f"{record}: no such file; expected a run directory")
    try:
        content = json.loads(limits.text(record, limits.RECORD))
        given = content["settings"]
        told = [
            f"The run {directory.name} simulates {given['system']} in the solvent {given['solvent']}.",
            f"The temperature of the run {directory.name} was {given['temperature_K']:g} K, "
            f"its time step {given['timestep_fs']:g} fs and its length {given['ns']:g} ns.",
            f"The run {directory.name} ended with the status {content['status']}.",
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{record}: not the record of a run ({error!r}); run it again") from None
    parts = sorted(p for p in directory.glob("replica-*") if (p / "log.csv").is_file())
    for part in parts or [directory]:
        told += _log_sentences(part / "log.csv", part.name)
    return told


def _log_sentences(path: Path, name: str) -> list[str]:
    """Means of the numbers in a log; nothing for one without rows."""
    if not path.is_file():
        return []
    with open(path, newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if None not in row.values()]  # a killed run may cut the last
    columns = {
        what: np.array([float(r[key]) for r in rows if r.get(key)])
        for what, key in (("temperature", "temperature_K"), ("potential energy", "potential_kJ_mol"))
    }
    units = {"temperature": "K", "potential energy": "kJ/mol"}
    return [
        f"The mean {what} logged in {name} was {values.mean():.1f} {units[what]}, "
        f"with a standard deviation of {values.std():.1f} {units[what]} over {len(values)} frames."
        for what, values in columns.items()
        if len(values)
    ]

"""How fast is the solvent for any peptide on one core, beside native OBC2 and beside explicit water by GROMACS?

Alanine dipeptide, chignolin, and a 20-residue peptide; 4 fs steps, HBonds constraints, Langevin dynamics. OpenMM's
contenders are interleaved (see ``benchmarks.timing``), and GROMACS runs between the rounds: the same peptide in TIP3P
with 0.8 nm of water around it, PME, one thread, from an equilibrated box. Its rate is that of the difference of two
lengths, so that starting the program does not count. All rates are per processor second.

    python -m benchmarks.peptide_speed
    python -m benchmarks.peptide_speed --systems alanine-dipeptide --rounds 3
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load

from benchmarks import engines
from benchmarks.result import Claim, write_result
from benchmarks.timing import Spread, interleaved, ratio
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.bind import load_forcefield
from mlsim.md.gromacs.program import FOLDER, TPR, executable
from mlsim.md.prepare import minimise
from mlsim.md.settings import ReferenceSettings
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.units import FS_PER_PS, PS_PER_NS, SECONDS_PER_DAY
from mlsim.workflow.force_data.reference import run_seed, seed_directory

NAME = "issnet-peptides"
LEARNED, NATIVE, WATER = NAME, "obc2, native GBSAOBCForce", "explicit TIP3P, GROMACS"
#: System -> least rates over native OBC2 and over explicit water.
BOUNDS = {"alanine-dipeptide": (1.0, 15.0), "chignolin": (1.5, 8.0), "twenty": (1.5, None)}
#: A peptide of 20 residues with every kind of side chain but proline's neighbour effects.
TWENTY = "ACE-ALA-ARG-ASN-ASP-CYS-GLN-GLU-GLY-HIE-ILE-LEU-LYS-MET-PHE-SER-THR-TRP-TYR-VAL-ALA-NME"


def molecule_of(system: str) -> Molecule:
    """The peptide."""
    return build(TWENTY) if system == "twenty" else load_system(system)


class Water:
    """Steps of explicit water by GROMACS, on one thread."""

    def __init__(self, molecule: Molecule, system: str, work: Path) -> None:
        self.place = work / system
        settings = ReferenceSettings.parse(
            {
                "system": TWENTY if system == "twenty" else system,
                "engine": "gromacs",
                "bias": "none",
                "ns": 0.002,
                "padding_nm": 0.8,
                "ions": "none",
                "box_equilibration_ps": 10.0,
                "record_ps": 1.0,
                "threads": 1,
            }
        )
        run_seed(molecule, settings, self.place, 1)
        self.tpr = seed_directory(self.place, 1) / FOLDER / TPR

    def seconds(self, steps: int) -> float:
        """Processor time of a run of ``steps`` from the stored start."""
        scratch = self.place / "timed"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        command = [executable(), "mdrun", "-s", str(self.tpr.resolve()), "-nsteps", str(steps)]
        command += ["-ntmpi", "1", "-ntomp", "1"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GMX_MAXBACKUP": "-1"}
        subprocess.run(command, cwd=scratch, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def rate(self, steps: int) -> float:
        """Steps per processor second."""
        return steps / max(self.seconds(2 * steps) - self.seconds(steps), 1e-9)


def measured(system: str, rounds: int, seconds: float, work: Path) -> dict[str, list[float]]:
    """Steps per processor second of every contender in every round."""
    molecule, field = molecule_of(system), load_forcefield(forcefield_directory(NAME))
    bare = build_system(molecule, Vacuum(), "hbonds", engines.SETTINGS.hydrogen_mass_Da)
    start = minimise(bare, molecule.positions, engines.SETTINGS)
    made = {
        NATIVE: engines.classical("obc2", molecule),
        LEARNED: engines.learned(field, molecule, "compiled", start),
    }
    water = Water(molecule, system, work)
    steps = max(200, round(seconds * water.rate(200)))
    rates: dict[str, list[float]] = {NATIVE: [], LEARNED: [], WATER: []}
    for _ in range(rounds):
        found, _ = interleaved({name: one.step for name, one in made.items()}, 1, seconds)
        for name, values in found.items():
            rates[name] += values
        rates[WATER].append(water.rate(steps))
        print(system, {name: f"{values[-1]:.0f}/s" for name, values in rates.items()}, flush=True)
    return rates


def claims_of(system: str, rates: dict[str, list[float]]) -> list[Claim]:
    """Ratios with their spread over the rounds."""
    found = []
    for against, bound in zip((NATIVE, WATER), BOUNDS[system], strict=True):
        spread: Spread = ratio(rates, LEARNED, against)
        words = f"{system}: steps/s over {against} (rounds {spread.least:.3g} to {spread.most:.3g})"
        if bound is not None:
            found.append(Claim("9.5", words, spread.median, f">= {bound:g}", spread.median >= bound))
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(BOUNDS), default=list(BOUNDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="Processor time per contender and round, s.")
    parser.add_argument("--work", type=Path, default=Path("runs/peptide-speed"), help="Path of the boxes of water.")
    asked = parser.parse_args()
    engines.one_thread()
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    for system in asked.systems:
        rates = measured(system, asked.rounds, asked.seconds, asked.work)
        per_day = 4.0 / FS_PER_PS / PS_PER_NS * SECONDS_PER_DAY
        atoms = molecule_of(system).n_atoms
        for name, values in rates.items():
            rows.append(
                {"system": system, "atoms": atoms, "contender": name, "steps_per_s": [round(v, 1) for v in values],
                 "ns_per_day": float(np.median(values)) * per_day}
            )  # fmt: skip
        claims += claims_of(system, rates)
    write_result("peptide_speed", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()

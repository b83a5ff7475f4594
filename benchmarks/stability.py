"""Does the shipped ISSNet run 8 x 1 ns at 4 fs without one blow-up, and does it conserve energy?

Canonical: eight replicas of ``mlsim run`` at 4 fs, HBonds constraints, 1.5 Da hydrogens; a blow-up (NaN, 3000 K,
energy jump) stops the run, so finishing is the proof; largest temperature and energy are listed.
NVE: Verlet from canonical starts; drift = slope of the total energy, in kT/ns per degree of freedom, for 1 fs and
2 fs with constraints (OpenMM's manual quotes 4.3e-4 for single precision at 0.5 fs).

    python -m benchmarks.stability --work runs/stability
    python -m benchmarks.stability --parts nve-0.5fs      (one part again; the others stay in the result)

Every row says which version of the force field it was measured with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load
from openmm import Context, Platform
from tqdm import tqdm

from benchmarks.result import RESULTS, Claim, write_result
from mlsim.chem.catalog import load_system
from mlsim.md.integrator import verlet
from mlsim.md.settings import RunSettings
from mlsim.md.stability import degrees_of_freedom
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.runs.trajectory import Run
from mlsim.units import FS_PER_PS, PS_PER_NS, kT
from mlsim.workflow.simulation.run import run

SYSTEM = "alanine-dipeptide"
TEMPERATURE_K = 300.0
BLOCK_PS = 1.0


def digest_of(described: dict[str, Any]) -> str:
    """Version of the force field in the record of a potential."""
    return next((str(term["digest"]) for term in described.get("terms", [described]) if "digest" in term), "none")


def canonical(solvent: str, work: Path, timestep_fs: float, replicas: int, ns: float) -> dict[str, Any]:
    """Run the replicas; an exception of the runner is a blow-up and ends the benchmark."""
    place = work / f"nvt-{timestep_fs:g}fs"
    settings = RunSettings(
        system=SYSTEM, solvent=solvent, ns=ns, replicas=replicas, seed=7, report_ps=0.5, timestep_fs=timestep_fs
    )
    run(settings, place, "resume" if (place / "run.json").exists() else "new")
    parts = Run.open(place).replicas
    temperature = np.concatenate([r.column("temperature_K") for r in parts])
    potential = np.concatenate([r.potential() for r in parts])
    return {
        "part": "nvt",
        "forcefield_digest": digest_of(parts[0].record.potential),
        "timestep_fs": timestep_fs,
        "replicas_finished": sum(r.record.status == "complete" for r in parts),
        "ns_each": ns,
        "mean_temperature_K": float(temperature.mean()),
        "temperature_standard_error_K": float(temperature.std() / np.sqrt(len(temperature) / 2)),
        "largest_temperature_K": float(temperature.max()),
        "largest_potential_kJ_mol": float(potential.max()),
    }


def drift(solvent: str, timestep_fs: float, constraints: str, ns: float, starts: int) -> dict[str, Any]:
    """Energy drift of NVE runs, kT/ns/dof: mean over starts and its standard error."""
    molecule = load_system(SYSTEM)
    potential = resolve(solvent, PotentialRequest(molecule))
    system = build_system(molecule, potential, constraints, 1.5)
    dof = degrees_of_freedom(system)
    slopes = []
    for seed in range(1, starts + 1):
        integrator = verlet(timestep_fs / FS_PER_PS)
        integrator.setConstraintTolerance(1e-8)
        context = Context(system, integrator, Platform.getPlatformByName("Reference"))
        context.setPositions(molecule.positions)
        context.setVelocitiesToTemperature(TEMPERATURE_K, seed)
        per_block = round(BLOCK_PS * FS_PER_PS / timestep_fs)
        integrator.step(5 * per_block)
        energies = []
        for _ in tqdm(
            range(round(ns * PS_PER_NS / BLOCK_PS)), desc=f"NVE {timestep_fs} fs, start {seed}", mininterval=10
        ):
            integrator.step(per_block)
            state = context.getState(getEnergy=True)
            energies.append(state.getPotentialEnergy()._value + state.getKineticEnergy()._value)
        time_ns = np.arange(len(energies)) * BLOCK_PS / PS_PER_NS
        slopes.append(np.polyfit(time_ns, energies, 1)[0] / kT(TEMPERATURE_K) / dof)
    return {
        "part": f"nve-{timestep_fs:g}fs",
        "forcefield_digest": digest_of(potential.describe()),
        "timestep_fs": timestep_fs,
        "ns_each": ns,
        "starts": starts,
        "drift_kT_per_ns_per_dof": float(np.mean(slopes)),
        "standard_error": float(np.std(slopes, ddof=1) / np.sqrt(starts)),
        "largest": float(np.abs(slopes).max()),
    }


PARTS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "nvt": lambda solvent, work: canonical(solvent, work, 4.0, 8, 1.0),
    "nve-0.5fs": lambda solvent, work: drift(solvent, 0.5, "none", 0.25, 4),
    "nve-1fs": lambda solvent, work: drift(solvent, 1.0, "hbonds", 0.5, 4),
}


def claims_of(rows: list[dict[str, Any]]) -> list[Claim]:
    """No blow-up in any replica, and the drift of the total energy."""
    found = []
    for row in rows:
        if row["part"] == "nvt":
            text, count = "replicas of 1 ns at 4 fs that finished without a blow-up", row["replicas_finished"]
            found.append(Claim("1.3", text, count, ">= 8", count >= 8))
        else:
            text = f"NVE drift at {row['timestep_fs']} fs, kT/ns/dof (largest of {row['starts']} starts)"
            found.append(Claim("1.3", text, row["largest"], "< 1e-3", row["largest"] < 1e-3))
    return found


def main() -> None:
    """Run the parts that are asked for and put them into the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvent", default="issnet:issnet-ala2")
    parser.add_argument("--work", type=Path, default=Path("runs/stability"))
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS), metavar="PART")
    given = parser.parse_args()
    path = RESULTS / "stability.json"
    rows = {row["part"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    for name in given.parts:
        rows[name] = PARTS[name](given.solvent, given.work)
        ordered = [rows[part] for part in PARTS if part in rows]
        write_result("stability", question=__doc__.splitlines()[0], rows=ordered, claims=claims_of(ordered))


if __name__ == "__main__":
    main()

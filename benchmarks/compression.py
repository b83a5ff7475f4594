"""What does tabulating the filters of the shipped network change: forces, energies, free energies?

Conformations come from an unbiased run with the shipped ISSNet. On each of them the network itself (eager torch, in
float64) and the compiled kernel with tables of several sizes are evaluated. The change of the free energies over phi
and psi comes from the same frames: weighted by exp(-(U_eager - U_table) / kT) they belong to the network's ensemble,
and no sampling error enters the difference (24 x 24 bins, F < 3 kcal/mol).

    python -m benchmarks.compression                      makes its own run (2 x 1 ns), about 3 min
    python -m benchmarks.compression --work runs/mine      takes frames of another one
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load

from benchmarks.result import Claim, write_result
from mlsim.analysis.observables import evaluate
from mlsim.analysis.surfaces.surface import estimate
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.deploy.bind import load_forcefield
from mlsim.deploy.kernel import compiled, table
from mlsim.md.settings import RunSettings
from mlsim.records import RUN_FILE
from mlsim.runs.trajectory import Run
from mlsim.units import KJ_PER_KCAL, kT
from mlsim.workflow.simulation.run import run

SYSTEM = "alanine-dipeptide"
CVS = ("phi", "psi")
GRIDS = (64, 128, 256, 512, 1024)
DISCARD_PS = 20.0


def frames(place: Path, solvent: str, stride: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions [F, N, 3] (nm), phi and psi [F, 2] (rad), and the temperature (K)."""
    if not (place / RUN_FILE).exists():
        run(RunSettings(system=SYSTEM, solvent=solvent, ns=1.0, replicas=2, seed=5, report_ps=0.5), place)
    found = Run.open(place)
    done = tuple(r for r in found.replicas if r.record.status == "complete")
    positions = np.concatenate([r.positions()[r.times_ps() > DISCARD_PS] for r in done])[::stride].astype(np.float64)
    return positions, evaluate(positions, found.topology, CVS), found.temperature_K


def change_of_free_energy(cv: np.ndarray, change: np.ndarray, temperature_K: float) -> tuple[float, float]:
    """RMSE and largest change (kcal/mol) of F over the bins below 3 kcal/mol if energies change by ``change`` [F]."""
    before = estimate(cv, temperature_K, cv_names=CVS)
    after = estimate(cv, temperature_K, cv_names=CVS, log_weights=-change / kT(temperature_K), edges=before.edges)
    mask = before.populated()
    difference = -kT(temperature_K) * np.log(after.probability[mask] / before.probability[mask]) / KJ_PER_KCAL
    difference -= difference.mean()
    return float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())


def main() -> None:
    """Evaluate, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forcefield", default="issnet-ala2")
    parser.add_argument("--work", type=Path, default=Path("runs/compression"), help="run whose frames are taken")
    parser.add_argument("--stride", type=int, default=1)
    given = parser.parse_args()
    x, cv, temperature = frames(given.work, f"issnet:{given.forcefield}", given.stride)
    molecule = load_system(SYSTEM)
    field = load_forcefield(forcefield_directory(given.forcefield))
    energies, forces = field.bind(molecule, "eager", "float64").evaluate(x)
    scale = float(np.sqrt(np.mean(forces**2)))
    artifact, rows = field.artifact, list[dict[str, Any]]()
    model, weights = artifact.model(), artifact.weights()
    shipped = artifact.table()
    assert shipped is not None
    contenders = [(f"{count} intervals", table.tabulate(model, count), "float64") for count in GRIDS]
    contenders += [("shipped table", shipped, dtype) for dtype in ("float64", "float32")]
    for name, filters, dtype in contenders:
        types = artifact.type_indices(molecule.atom_types)
        kernel = compiled.bind(artifact.config, weights, filters, types, molecule.charges, dtype)
        found, push = kernel.evaluate(x)
        change = energies - found
        rmse, largest = change_of_free_energy(cv, change, temperature)
        error = table.error(filters, model)
        rows.append(
            {
                "table": name,
                "intervals": filters.intervals,
                "arithmetic": dtype,
                "megabytes_float32": filters.coefficients().size * 4 / 2**20,
                "filter_value_error": error.value,
                "filter_slope_error": error.slope,
                "force_change": float(np.sqrt(np.mean((push - forces) ** 2))) / scale,
                "largest_force_change_kJ_mol_nm": float(np.abs(push - forces).max()),
                "spread_of_energy_change_kT": float(change.std() / kT(temperature)),
                "fes_rmse_kcal_mol": rmse,
                "fes_largest_change_kcal_mol": largest,
                "frames": len(x),
            }
        )
        print({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    last = rows[-1]
    text = f"{given.forcefield}, table of {last['intervals']} intervals, kernel in float32"
    write_result(
        "compression",
        question=__doc__.splitlines()[0],
        rows=rows,
        claims=[
            Claim(
                "3.5",
                f"{text}: relative change of the forces (rms)",
                last["force_change"],
                "< 1e-4",
                last["force_change"] < 1e-4,
            ),
            Claim(
                "3.5",
                f"{text}: FES RMSE, kcal/mol, by reweighting the same frames",
                last["fes_rmse_kcal_mol"],
                "< 0.02",
                last["fes_rmse_kcal_mol"] < 0.02,
            ),
        ],
    )


if __name__ == "__main__":
    main()

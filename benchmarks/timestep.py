"""How long may a time step be, and how seldom may the learned solvent act, before temperature or free energies change?

Every row runs replicas of alanine dipeptide with the shipped ISSNet through ``mlsim run`` (300 K, friction 1/ps, HBonds
constraints, compiled kernel in float32) with one choice of time step, ``learned_every`` and hydrogen mass. A blow-up
(NaN, 3000 K, energy jump) stops a run, so a row that is there is stable. Means have standard errors over replicas.

Rows called ``flat`` are four replicas of 2 ns under the fixed bias of the explicit-water reference, which flattens phi
and psi; so a few nanoseconds, reweighted, know the free energies as well as many without it, and the energies of
all are those of one ensemble. They are compared with the flat row of 2 fs: free energies over phi and psi (24 x 24
bins, F < 3 kcal/mol), raw and with the noise of both taken out, and mean and spread of the potential energy. What the
rows cost is in ``benchmarks.md_speed``. The row of the default step without a bias has 16 replicas of 10 ns. The drift
without thermostat (NVE) is that of ``benchmarks.stability``, taken from its result.

    python -m benchmarks.timestep --rows 2fs-every1-1.5Da-flat 4fs-every1-1.5Da-flat     (resumable, row by row)
    python -m benchmarks.timestep                             (all rows; about 20 min without the one of 16 x 10 ns)

Rows that were not run are left out of the table. Every row says which version of the force field it was run with.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load
from tqdm import tqdm

from benchmarks.result import RESULTS, Claim, write_result
from benchmarks.stability import SYSTEM, TEMPERATURE_K, digest_of
from mlsim.analysis.compare import compare
from mlsim.analysis.samples import from_runs
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.md.settings import RunSettings
from mlsim.records import RUN_FILE
from mlsim.runs.trajectory import Run
from mlsim.units import KJ_PER_KCAL
from mlsim.workflow.simulation.run import run

#: Start of every replica that is left out, ps.
DISCARD_PS = 100.0
REPORT_PS = 0.5
#: Row that the others are compared with.
TRUTH = "2fs-every1-1.5Da-flat"
#: Bias of the explicit-water reference, which flattens phi and psi.
FLAT = str(Path("systems") / SYSTEM / "reference" / "bias.npz")
#: What a row may differ by and still be called safe (our choice): free energies, kcal/mol; mean temperature, K.
SAFE_KCAL_MOL, SAFE_K = 0.1, 1.0


@dataclass(frozen=True)
class Row:
    """One choice, and how much of it is run."""

    timestep_fs: float
    learned_every: int
    hydrogen_mass_Da: float
    replicas: int = 4
    ns: float = 2.0
    bias: str = FLAT

    @property
    def name(self) -> str:
        """Key on the command line."""
        form = "" if self.bias == "none" else "-flat"
        return f"{self.timestep_fs:g}fs-every{self.learned_every}-{self.hydrogen_mass_Da:g}Da{form}"

    def settings(self, solvent: str) -> RunSettings:
        """What ``mlsim run`` is told."""
        return RunSettings(
            system=SYSTEM,
            solvent=solvent,
            ns=self.ns,
            temperature_K=TEMPERATURE_K,
            timestep_fs=self.timestep_fs,
            learned_every=self.learned_every,
            hydrogen_mass_Da=self.hydrogen_mass_Da,
            replicas=self.replicas,
            seed=7,
            report_ps=REPORT_PS,
            bias=self.bias,
            platform="Reference",
        )


_ALL = (
    Row(4.0, 1, 1.5, 16, 10.0, "none"),
    Row(2.0, 1, 1.5),
    Row(4.0, 1, 1.5),
    Row(4.0, 2, 1.5),
    Row(4.0, 1, 3.0),
    Row(4.0, 3, 1.5),
    Row(4.0, 2, 3.0),
)
ROWS = {row.name: row for row in _ALL}


class _Bar:
    """Progress as a bar of tqdm."""

    def __init__(self, total: int, name: str) -> None:
        self._bar = tqdm(total=total, desc=name, mininterval=20)

    def advance(self, steps: int) -> None:
        """Count ``steps``."""
        self._bar.update(steps)


def simulate(row: Row, solvent: str, work: Path) -> None:
    """Run (or continue) a row; an exception of the runner is a blow-up and ends the benchmark."""
    place, settings = work / row.name, row.settings(solvent)
    start = "resume" if (place / RUN_FILE).exists() else "new"
    run(settings, place, start, progress=_Bar(settings.total_steps * row.replicas, row.name))  # type: ignore[arg-type]


def finished(place: Path) -> int:
    """Replicas of a row that reached their end."""
    records = [json.loads(p.read_text()) for p in place.glob("replica-*/run.json")]
    return sum(r["status"] == "complete" for r in records)


def mean_of(values: list[np.ndarray]) -> dict[str, float]:
    """Mean over replicas with its standard error."""
    means = np.array([v.mean() for v in values])
    return {"value": float(means.mean()), "standard_error": float(means.std(ddof=1) / np.sqrt(len(means)))}


def measured(row: Row, work: Path) -> tuple[dict[str, Any], FreeEnergySurface]:
    """What the finished replicas of a row say."""
    found = Run.open(work / row.name)
    done = tuple(r for r in found.replicas if r.record.status == "complete")
    kept = [r.times_ps() > DISCARD_PS for r in done]
    samples = from_runs([Run(found.directory, found.record, done)], ("phi", "psi"), discard_ps=DISCARD_PS)
    surface = samples.surface().labelled(row.name)
    assert surface.basins is not None
    temperature = [r.column("temperature_K")[k] for r, k in zip(done, kept, strict=True)]
    potential = [r.potential()[k] for r, k in zip(done, kept, strict=True)]
    populations = {name: surface.basins.interval(name) for name in surface.basins.names}
    return {
        "row": row.name,
        "forcefield_digest": digest_of(found.replicas[0].record.potential),
        "timestep_fs": row.timestep_fs,
        "learned_every": row.learned_every,
        "hydrogen_mass_Da": row.hydrogen_mass_Da,
        "replicas_finished": len(done),
        "ns_each": float(done[0].record.settings["ns"]),
        "temperature_K": mean_of(temperature),
        "largest_temperature_K": float(max(t.max() for t in temperature)),
        "potential_kJ_mol": mean_of(potential),
        "spread_of_potential_kJ_mol": mean_of([np.std(p, keepdims=True) for p in potential]),
        "largest_potential_kJ_mol": float(max(p.max() for p in potential)),
        "populations": {k: {"value": v.value, "low": v.low, "high": v.high} for k, v in populations.items()},
    }, surface


def against_truth(rows: dict[str, dict[str, Any]], surfaces: dict[str, FreeEnergySurface]) -> dict[str, dict[str, Any]]:
    """Add what differs from the row of the smallest step: free energies, kcal/mol, and potential energies, kJ/mol.

    Only rows with the same version of the force field are compared.
    """
    truth = rows.get(TRUTH, {})
    same = [name for name, row in rows.items() if row["forcefield_digest"] == truth.get("forcefield_digest")]
    others = [surfaces[name] for name in same if name != TRUTH]
    if not others:
        return rows
    for found in compare(surfaces[TRUTH], others).rows:
        row = rows[found.label]
        row["compared_with"] = TRUTH
        for key, estimate in (("fes_rmse", found.rmse), ("fes_rmse_corrected", found.rmse_corrected)):
            row[f"{key}_kcal_mol"] = {
                "value": estimate.value / KJ_PER_KCAL,
                "low": estimate.low / KJ_PER_KCAL,
                "high": estimate.high / KJ_PER_KCAL,
            }
        if found.label.endswith("-flat"):
            for key in ("potential_kJ_mol", "spread_of_potential_kJ_mol"):
                row[f"change_of_{key}"] = difference(row[key], truth[key])
    return rows


def difference(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Difference of two means with its standard error."""
    error = float(np.hypot(one["standard_error"], other["standard_error"]))
    return {"value": one["value"] - other["value"], "standard_error": error}


def claims_of(rows: dict[str, dict[str, Any]], drifts: list[dict[str, float]], default: Row) -> list[Claim]:
    """The default step without a blow-up, and what each choice changes (bounds ours)."""
    found = []
    for name, row in rows.items():
        off = row["temperature_K"]["value"] - TEMPERATURE_K
        text = f"{name}: mean temperature minus {TEMPERATURE_K:g} K (+- {row['temperature_K']['standard_error']:.2f})"
        if row["temperature_K"]["standard_error"] < SAFE_K / 2.0:  # shorter rows cannot tell
            found.append(Claim("3.5", text, off, f"within {SAFE_K:g}", abs(off) <= SAFE_K))
        if "fes_rmse_corrected_kcal_mol" in row:
            error = row["fes_rmse_corrected_kcal_mol"]
            text = f"{name}: free energies off those at 2 fs, kcal/mol, noise out ({error['low']:.2f} to "
            text += f"{error['high']:.2f})"
            found.append(Claim("3.5", text, error["value"], f"<= {SAFE_KCAL_MOL:g}", error["value"] <= SAFE_KCAL_MOL))
    if default.name in rows:
        row = rows[default.name]
        finished = row["replicas_finished"] if row["ns_each"] >= 10.0 else 0
        found.append(
            Claim("3.5", f"replicas of 10 ns at {default.name} without a blow-up", finished, ">= 16", finished >= 16)
        )
    for row in drifts:
        text = f"NVE drift at {row['timestep_fs']:g} fs in float32, kT/ns/dof (largest of {row['starts']:g} starts)"
        found.append(Claim("3.5", text, row["largest"], "< 1e-3", row["largest"] < 1e-3))
    return found


def main() -> None:
    """Run the rows that are asked for, then write what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--solvent", default="issnet:issnet-ala2")
    parser.add_argument("--work", type=Path, default=Path("runs/timestep"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for name in given.rows:
        simulate(ROWS[name], given.solvent, given.work)
    stability = json.loads((RESULTS / "stability.json").read_text())["rows"]
    drifts = [row for row in stability if "drift_kT_per_ns_per_dof" in row]
    there = {name: measured(row, given.work) for name, row in ROWS.items() if finished(given.work / name) > 1}
    rows = against_truth({k: v[0] for k, v in there.items()}, {k: v[1] for k, v in there.items()})
    for name, row in rows.items():
        print(name, {k: v for k, v in row.items() if k not in ("row", "populations")})
    usual = RunSettings(ns=1.0)
    default = Row(usual.timestep_fs, usual.learned_every, usual.hydrogen_mass_Da, 16, 10.0, "none")
    claims = claims_of(rows, drifts, default)
    write_result("timestep", question=__doc__.splitlines()[0], rows=[*rows.values(), *drifts], claims=claims)


if __name__ == "__main__":
    main()

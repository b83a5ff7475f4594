"""Which solvent model reproduces the explicit-water thermodynamics of alanine dipeptide?

Reference: fixed-bias explicit runs (``mlsim reference``), seeds that no training saw. ISSNet: flattened runs with the
same bias, sampled directly. GB models: the ISSNet frames reweighted to each model's energy,
log w = -(U_GB - U_ISSNet) / kT + V_bias / kT, effective sample size shown. Vacuum: its own metadynamics.

    python -m benchmarks.solvents --reference systems/alanine-dipeptide/reference --work runs/solvents

Everything below ``--work`` is resumable; ``--ns`` sets the length of each of the two ISSNet runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load
from openmm import Context, Platform
from tqdm import tqdm

from benchmarks.result import Claim, write_result
from mlsim.analysis import report
from mlsim.analysis.compare import Comparison, Row, compare
from mlsim.analysis.figures import panels
from mlsim.analysis.reweight import hamiltonian
from mlsim.analysis.samples import from_frames, from_runs
from mlsim.analysis.surfaces.pool import combine
from mlsim.analysis.surfaces.surface import FreeEnergySurface, estimate
from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors
from mlsim.md.integrator import verlet
from mlsim.md.settings import RunSettings
from mlsim.potentials.born import GB_MODELS, GeneralizedBorn
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import skeleton
from mlsim.runs.trajectory import Run
from mlsim.units import KJ_PER_KCAL, PS_PER_NS
from mlsim.workflow.force_fields.force_field import load_forcefield
from mlsim.workflow.force_fields.mean_force import compare as compare_forces
from mlsim.workflow.simulation.run import run

SYSTEM = "alanine-dipeptide"
CVS = ("phi", "psi")
DISCARD_PS = 100.0
VACUUM_NS = 10.0


def sampled(solvent: str, bias: str, ns: float, replicas: int, work: Path) -> Run:
    """A finished biased run of ``solvent`` in ``work`` (continued if it was interrupted)."""
    place = work / solvent.replace(":", "_")
    settings = RunSettings(system=SYSTEM, solvent=solvent, ns=ns, bias=bias, replicas=replicas, seed=101, report_ps=1.0)
    started = (place / "run.json").exists()
    with _Bar(settings.total_steps * replicas, solvent) as bar:
        run(settings, place, "resume" if started else "new", progress=bar)
    return Run.open(place)


class _Bar:
    def __init__(self, total: int, name: str) -> None:
        self._bar = tqdm(total=total, desc=name, mininterval=10)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, steps: int) -> None:
        """Count ``steps``."""
        self._bar.update(steps)


def gb_energies(model: str, molecule: Molecule, positions: np.ndarray) -> np.ndarray:
    """Solvation energy of one GB model for every frame [F], kJ/mol (positions [F, N, 3] nm)."""
    system = skeleton(molecule, "none", 1.0)
    GeneralizedBorn(model).add_to(system, molecule, Placement())
    context = Context(system, verlet(1e-3), Platform.getPlatformByName("Reference"))
    energies = np.empty(len(positions))
    for k, x in enumerate(tqdm(positions, desc=model, mininterval=10)):
        context.setPositions(x.astype(np.float64))
        energies[k] = context.getState(getEnergy=True).getPotentialEnergy()._value
    return energies


def reweighted(model: str, molecule: Molecule, flat: Run, forcefield: str, work: Path) -> FreeEnergySurface:
    """Surface of a GB model from the flattened ISSNet frames."""
    kept = [r.times_ps() > DISCARD_PS for r in flat.replicas]
    positions = np.concatenate([r.positions()[k] for r, k in zip(flat.replicas, kept, strict=True)])
    bias = np.concatenate([r.bias()[k] for r, k in zip(flat.replicas, kept, strict=True)])
    index = np.concatenate([np.full(k.sum(), n) for n, k in enumerate(kept)])
    cache = work / f"energies_{model}.npz"
    if cache.exists() and len(np.load(cache)["target"]) == len(positions):
        target, sampled_energy = np.load(cache)["target"], np.load(cache)["sampled"]
    else:
        target = gb_energies(model, molecule, positions)
        sampled_energy, _ = load_forcefield(forcefield).bind(molecule).evaluate(positions)
        np.savez(cache, target=target, sampled=sampled_energy)
    log_weights = hamiltonian(target, sampled_energy, flat.temperature_K, bias)
    atoms = ramachandran_atoms(molecule)[1].reshape(-1, 4)
    angles = dihedrals(positions, atoms)
    surface = estimate(angles, flat.temperature_K, cv_names=CVS, log_weights=log_weights, run=index)
    return surface.labelled(model, {"sampling": "reweighted from flattened ISSNet runs"})


def claims(comparison: Comparison, learned: str, forces: MeanForceErrors | None) -> list[Claim]:
    """Not worse than the best GB model, clearly better than vacuum, and the claims of accuracy."""
    rows = {row.label: row for row in comparison.rows}
    ours = rows[learned].rmse_corrected.value / KJ_PER_KCAL
    best = min((rows[m].rmse_corrected.value / KJ_PER_KCAL, m) for m in GB_MODELS)
    vacuum = rows["vacuum"].rmse_corrected.value / KJ_PER_KCAL
    return [
        Claim(
            "1.2",
            f"ISSNet FES RMSE (kcal/mol, noise-corrected) against the best GB model ({best[1]})",
            ours,
            f"<= {best[0]:.3f}",
            ours <= best[0],
        ),
        Claim(
            "1.2",
            "vacuum FES RMSE over ISSNet FES RMSE (noise-corrected)",
            vacuum / max(ours, 1e-3),
            ">= 3",
            vacuum >= 3 * ours,
        ),
        *accuracy_claims(comparison, rows[learned], best, forces, learned.removeprefix("issnet:")),
    ]


def accuracy_claims(
    comparison: Comparison, row: Row, best: tuple[float, str], forces: MeanForceErrors | None, field: str
) -> list[Claim]:
    """Claims of accuracy: reference noise, mean force, surface, basins."""
    noise, ours = comparison.noise / KJ_PER_KCAL, row.rmse_corrected.value / KJ_PER_KCAL
    seeds = len(comparison.reference.splits)
    found = [
        Claim(
            "2.1", f"noise of the reference, {seeds} seeds, kcal/mol", noise, "<= 0.08", noise <= 0.08 and seeds >= 3
        ),
        Claim("2.3", "ISSNet FES RMSE, noise-corrected, kcal/mol", ours, "<= 0.08", ours <= 0.08),
        Claim(
            "2.3",
            f"best GB model's FES RMSE ({best[1]}) over ISSNet's, noise-corrected",
            best[0] / max(ours, 1e-3),
            ">= 3",
            best[0] >= 3 * ours,
        ),
        Claim(
            "2.3",
            "JS divergence from the reference, nats, against that between the reference's own seeds",
            row.js.value,
            f"<= {comparison.js_splits:.4f}",
            row.js.value <= comparison.js_splits,
        ),
    ]
    for basin in row.basins:
        if basin.name != "PII":
            away = basin.free_energy_difference.value / KJ_PER_KCAL
            most = 0.2 if basin.name == "alphaL" else 0.1
            claim = f"error of the {basin.name} free energy (from PII), kcal/mol"
            found.append(Claim("2.4", claim, away, f"within {most}", abs(away) <= most))
    if forces is not None:
        value = forces.of(field).projected.value
        born = min((forces.of(m).projected.value, m) for m in GB_MODELS)
        claim = f"mean-force error, noise-corrected, kJ/mol/nm (best GB model: {born[1]} {born[0]:.1f})"
        found.append(Claim("2.2", claim, value, "<= 6", value <= 6.0))
    return found


def mean_force(molecule: Molecule, field: str, reference: Path) -> MeanForceErrors | None:
    """Errors in the mean force on the frozen labels beside the reference surfaces, if there are any."""
    path = reference / "labels.h5"
    if not path.is_file():
        return None
    return compare_forces(ForceFrames.load(path), molecule, GB_MODELS, [field], [], block_ps=100.0)


def training_frames(path: Path) -> ForceFrames:
    """Frames of a file, or of all ``frames-seed-*.h5`` of a directory together."""
    if not path.is_dir():
        return ForceFrames.load(path)
    files = sorted(path.glob("frames-seed-*.h5"))
    if not files:
        raise SystemExit(f"{path}: no frames-seed-*.h5 in here")
    return concatenate([ForceFrames.load(file) for file in files])


def against_training(surfaces: list[FreeEnergySurface]) -> list[dict[str, object]]:
    """The same table against the run that ISSNet was trained on: for orientation, not a held-out test."""
    place = Path("systems") / SYSTEM / "training"
    if not place.is_dir():
        return []
    frames = training_frames(place)
    samples = from_frames(frames, CVS, discard_ps=100.0, temperature_K=300.0, label="training data (not held out)")
    comparison = compare(samples.surface(), surfaces)
    print(report.table(comparison))
    return [report.comparison_record(comparison)]


def main() -> None:
    """Sample what is missing, compare, write JSON, table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, default=Path("systems") / SYSTEM / "reference")
    parser.add_argument("--work", type=Path, default=Path("runs/solvents"))
    parser.add_argument("--forcefield", default="issnet-ala2")
    parser.add_argument("--ns", type=float, default=15.0)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    molecule = load_system(SYSTEM)
    bias = str(given.reference / "bias.npz")
    learned = f"issnet:{given.forcefield}"
    flat = sampled(learned, bias, given.ns, 2, given.work)
    vacuum = sampled("vacuum", "metadynamics", VACUUM_NS, 2, given.work)
    surfaces = [
        from_runs([flat], CVS, discard_ps=DISCARD_PS).surface().labelled(learned, {"sampling": "direct, fixed bias"}),
        *(reweighted(m, molecule, flat, given.forcefield, given.work) for m in GB_MODELS),
        from_runs([vacuum], CVS, discard_ps=0.2 * PS_PER_NS * VACUUM_NS)
        .surface()
        .labelled("vacuum", {"sampling": "direct, metadynamics"}),
    ]
    seeds = [FreeEnergySurface.load(p) for p in sorted(given.reference.glob("surface-seed-*.npz"))]
    reference = combine(seeds, "explicit TIP3P") if len(seeds) > 1 else seeds[0].labelled("explicit TIP3P")
    comparison = compare(reference, surfaces)
    print(report.table(comparison))
    forces = mean_force(molecule, given.forcefield, given.reference)
    panels(comparison.surfaces, Path("benchmarks/results/solvents.png"), report.notes(comparison))
    write_result(
        "solvents",
        question=__doc__.splitlines()[0],
        rows=[
            report.comparison_record(comparison),
            *([] if forces is None else [{"mean_force": forces.as_dict()}]),
            *against_training(surfaces),
        ],
        claims=claims(comparison, learned, forces),
    )
    (given.work / "table.txt").write_text(report.table(comparison) + "\n")


if __name__ == "__main__":
    main()

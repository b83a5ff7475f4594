"""Where generalized Born is known to be weak: does the same recipe hold on larger and on charged peptides?

The recipe of alanine dipeptide, unchanged, on ACE-ALA-ALA-NME (both Ramachandran surfaces) and on ACE-LYS-ALA-GLU-NME
(those of its three residues, and the distance of the salt bridge); there also on top of OBC2, which screens charges
beyond the network's range. Explicit reference: seeds that no training saw, under the bias of the dipeptide repeated on
every residue. ISSNet: its own flattened runs. GB models: those frames reweighted on the tripeptide; on the larger
peptide, where hardly any frames would be left, OBC2 and GBn2 from runs of their own under the same bias.

    python -m benchmarks.accuracy.peptides --system alanine-tripeptide
    python -m benchmarks.accuracy.peptides --system lys-ala-glu --epochs 3 --flat-ns 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.recipe import DISCARD_PS, Bench, Variant, numbers
from benchmarks.result import Claim, write_result
from benchmarks.solvents import training_frames
from mlsim.analysis import observables, report
from mlsim.analysis.compare import Comparison, compare
from mlsim.analysis.figures import panels, profiles
from mlsim.analysis.samples import from_runs
from mlsim.analysis.surfaces.surface import FreeEnergySurface, estimate
from mlsim.dataset.frames import ForceFrames
from mlsim.potentials.born import GB_MODELS
from mlsim.runs.trajectory import Run
from mlsim.units import KJ_PER_KCAL, PS_PER_NS
from mlsim.workflow.force_fields.mean_force import compare as compare_forces

DISTANCE_EDGES = (np.linspace(0.25, 1.65, 29),)


@dataclass(frozen=True)
class Peptide:
    """A system, the name of its force field and the surfaces it is judged by: file name -> collective variables.

    ``bias`` is that of the reference and of the runs that are judged; training runs always have ``bias.npz``.
    Flattening every residue at once leaves few effective frames of the unbiased ensemble, so a part of it serves
    better there. ``reweighted`` and ``direct`` are the GB models to compare with and how their surfaces are had, the
    latter with the length of their runs, ns. ``baselines`` are what the recipe is trained on top of.
    """

    system: str
    forcefield: str
    surfaces: dict[str, tuple[str, ...]]
    bias: str = "bias.npz"
    reweighted: tuple[str, ...] = GB_MODELS
    direct: tuple[tuple[str, float], ...] = ()
    baselines: tuple[str, ...] = ("none",)


_ALL = (
    Peptide("alanine-tripeptide", "issnet-ala3", {"ala2": ("phi:2", "psi:2"), "ala3": ("phi:3", "psi:3")}),
    Peptide(
        "lys-ala-glu",
        "issnet-kae",
        {
            "lys2": ("phi:2", "psi:2"),
            "ala3": ("phi:3", "psi:3"),
            "glu4": ("phi:4", "psi:4"),
            "salt-bridge": ("distance:2.NZ,4.CD",),
        },
        "bias-weak.npz",
        reweighted=(),
        direct=(("obc2", 4.0), ("gbn2", 1.0)),
        baselines=("none", "obc2"),
    ),
)
PEPTIDES = {peptide.system: peptide for peptide in _ALL}


def edges(specs: Sequence[str]) -> tuple[np.ndarray, ...] | None:
    """Bin edges that every surface of these variables shares."""
    return DISTANCE_EDGES if len(specs) == 1 else None


class Models:
    """Surfaces of the learned solvents (force field -> its flattened run) and of the GB models."""

    def __init__(self, bench: Bench, learned: dict[str, Run], peptide: Peptide) -> None:
        self.bench, self.learned, self.peptide = bench, learned, peptide

    def surfaces(self, specs: Sequence[str]) -> list[FreeEnergySurface]:
        """Surfaces of the learned solvents and of the GB models."""
        found = [self._direct(run, field, specs) for field, run in self.learned.items()]
        found += [self._reweighted(solvent, specs) for solvent in self.peptide.reweighted]
        for solvent, ns in self.peptide.direct:
            found.append(self._direct(Run.open(self.bench.flattened(solvent, ns, 1, seed=21)), solvent, specs))
        return found

    def _reweighted(self, solvent: str, specs: Sequence[str]) -> FreeEnergySurface:
        weights = self.bench.log_weights(solvent)
        positions, _, run = self.bench.frames
        pool = self.learned[self.bench.pool_field]
        cv = observables.evaluate(positions, pool.replicas[0].topology, specs)
        found = estimate(cv, pool.temperature_K, cv_names=specs, log_weights=weights, run=run, edges=edges(specs))
        return found.labelled(solvent, {"sampling": "reweighted from flattened ISSNet runs"})

    def _direct(self, run: Run, solvent: str, specs: Sequence[str]) -> FreeEnergySurface:
        found = from_runs([run], specs, discard_ps=DISCARD_PS).surface(edges=edges(specs))
        return found.labelled(solvent, {"sampling": "direct, fixed bias"})


def estimate_references(peptide: Peptide, runs: Path, target: Path) -> None:
    """Write the surfaces of every ``seed-*`` run below ``runs`` into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    for place in sorted(runs.glob("seed-*")):
        run = Run.open(place)
        for name, specs in peptide.surfaces.items():
            found = from_runs([run], specs, discard_ps=DISCARD_PS).surface(edges=edges(specs))
            record = run.replicas[0].record.model_dump(include={"seed", "potential", "versions", "step"})
            where = {"runs": [place.name], "records": [record], "discard_ps": DISCARD_PS}
            found.labelled(f"explicit TIP3P {place.name}", where).save(target / f"surface-{name}-{place.name}.npz")


def claims(name: str, comparison: Comparison, fields: Sequence[str]) -> list[Claim]:
    """2.6 for one surface: ISSNet against the best GB model, with the noise of the reference beside it."""
    errors = {row.label: row.rmse_corrected.value / KJ_PER_KCAL for row in comparison.rows}
    best = min((error, label) for label, error in errors.items() if label not in fields)
    noise = comparison.noise / KJ_PER_KCAL
    found = []
    for field in fields:
        words = f"{name}: {field}, FES RMSE, noise-corrected, kcal/mol, against the best GB model ({best[1]}"
        holds = errors[field] < best[0]
        found.append(Claim("2.6", f"{words}; reference noise {noise:.3f})", errors[field], f"< {best[0]:.3f}", holds))
    return found


def trained(bench: Bench, peptide: Peptide) -> list[str]:
    """Force fields by the recipe on top of every baseline; their names."""
    frames = training_frames(bench.data)
    ns = sum(float(frames.time_ps[frames.run == k].max()) for k in np.unique(frames.run)) / PS_PER_NS
    names = {b: peptide.forcefield if b == "none" else f"{peptide.forcefield}-{b}" for b in peptide.baselines}
    return [bench.export(bench.trained(Variant(name, round(ns, 1), baseline=b))) for b, name in names.items()]


def main() -> None:
    """Train, sample, compare one peptide; or estimate its reference surfaces from explicit runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=sorted(PEPTIDES), required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="scratch directory, resumable")
    parser.add_argument("--references", type=Path, help="estimate the reference surfaces from the runs in here")
    parser.add_argument("--epochs", type=int, default=6, help="passes over 20 ns of data (more over less)")
    parser.add_argument("--flat-ns", type=float, default=8.0, help="length of each of two flattened runs")
    given = parser.parse_args()
    peptide = PEPTIDES[given.system]
    place = Path("systems") / peptide.system / "reference"
    if given.references is not None:
        estimate_references(peptide, given.references, place)
        return
    data = Path("systems") / peptide.system / "training"
    bench = Bench(given.work, data, given.work / "none", place / "bias.npz", system=peptide.system, epochs=given.epochs)
    bench.flat_ns = given.flat_ns
    fields = trained(bench, peptide)
    bench.bias = place / peptide.bias
    runs = {field: bench.flattened(f"issnet:{field}", given.flat_ns, 2, seed=101) for field in fields}
    bench.pool, bench.pool_field = runs[fields[0]], fields[0]
    rows, found = [], []
    models = Models(bench, {field: Run.open(run) for field, run in runs.items()}, peptide)
    for name, specs in peptide.surfaces.items():
        comparison = compare(bench.reference(f"surface-{name}"), models.surfaces(specs))
        print(name, report.table(comparison), sep="\n")
        found += claims(name, comparison, fields)
        picture = Path(f"benchmarks/results/accuracy-{peptide.system}-{name}.png")
        if len(specs) == 1:
            profiles(comparison.surfaces, picture)
        else:
            panels(comparison.surfaces, picture, report.notes(comparison))
        rows += [{"surface": name, "solvent": row.label, **numbers(row, comparison)} for row in comparison.rows]
    rows += forces(bench, fields)
    write_result("accuracy.peptides", __doc__.splitlines()[0], rows, found, part=peptide.system)


def forces(bench: Bench, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Mean-force errors on held-out labels, if there are any."""
    path = bench.held_out / "labels.h5"
    if not path.is_file():
        return []
    errors = compare_forces(ForceFrames.load(path), bench.molecule, GB_MODELS, fields, [], block_ps=100.0)
    return [{"mean_force": errors.as_dict()}]


if __name__ == "__main__":
    main()

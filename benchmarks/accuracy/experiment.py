"""One experiment: train some variants, measure all of them in the same way, write table and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy.recipe import Bench, Variant, numbers
from benchmarks.result import Claim, write_result
from mlsim.analysis.compare import Comparison
from mlsim.dataset.frames import ForceFrames
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors
from mlsim.workflow.force_fields.mean_force import compare as compare_forces

GB = ("hct", "obc1", "obc2", "gbn", "gbn2")


def arguments(question: str) -> Bench:
    """Options that all experiments share."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="scratch directory, resumable")
    place = Path("systems/alanine-dipeptide")
    words = "frames of the explicit training runs: a file, or a directory of frames-seed-*.h5"
    parser.add_argument("--data", type=Path, default=place / "training", help=words)
    parser.add_argument("--pool", type=Path, required=True, help="flattened run of the shipped model")
    parser.add_argument("--bias", type=Path, default=place / "reference/bias.npz", help="bias of the training runs")
    parser.add_argument("--epochs", type=int, default=6, help="passes over 20 ns of data (more over less)")
    given = parser.parse_args()
    return Bench(given.work, given.data, given.pool, given.bias, epochs=given.epochs, most_epochs=12)


def force_errors(bench: Bench, fits: Sequence[Path], fields: Sequence[str] = (), born: Sequence[str] = GB) -> Any:
    """Noise-corrected errors on the held-out frozen labels of the system directory, or None without labels."""
    path = bench.held_out / "labels.h5"
    if not path.is_file():
        return None
    return compare_forces(ForceFrames.load(path), bench.molecule, born, fields, fits, block_ps=100.0)


def measure(
    name: str,
    question: str,
    bench: Bench,
    variants: Sequence[Variant],
    claims: Callable[[Comparison, MeanForceErrors | None, list[dict[str, Any]]], list[Claim]],
    born: Sequence[str] = GB,
) -> list[dict[str, Any]]:
    """Train, compare, write ``benchmarks/results/accuracy-NAME.json``; returns the rows."""
    fits = [bench.trained(v) for v in variants]
    names = [bench.export(fit) for fit in fits]
    comparison = bench.compared([*names, *born])
    errors = force_errors(bench, fits, born=born)
    rows = []
    for label, row in zip([*names, *born], comparison.rows, strict=True):
        entry: dict[str, Any] = {"solvent": label, **numbers(row, comparison)}
        if label in names:
            variant = variants[names.index(label)]
            entry |= {k: v for k, v in asdict(variant).items() if k != "name"}
        if errors is not None:
            found = errors.of(label)
            entry["mean_force_error_kJ_mol_nm"] = asdict(found.projected)
            entry["mean_force_error_with_noise_kJ_mol_nm"] = asdict(found.raw)
        rows.append(entry)
        show(entry)
    write_result(f"accuracy.{name}", question, rows, claims(comparison, errors, rows))
    return rows


def show(entry: dict[str, Any]) -> None:
    """Print one row."""
    rmse, js = entry["fes_rmse_corrected_kcal_mol"], entry["js_nats"]["value"]
    force = entry.get("mean_force_error_kJ_mol_nm")
    forces = "" if force is None else f"  force {force['value']:.1f} kJ/mol/nm"
    basins = " ".join(f"{k} {v['value']:+.2f}" for k, v in entry["basins_kcal_mol"].items() if k != "PII")
    print(
        f"{entry['solvent']:34s} FES {rmse['value']:.3f} [{rmse['low']:.3f}, {rmse['high']:.3f}] kcal/mol  "
        f"JS {js:.4f}{forces}  {basins}  ({entry['effective_frames']:.0f} effective frames)"
    )

"""How many steps per second does one core do: vacuum, GB, TIP3P, and ISSNet by every road, alone and as replicas?

    python -m benchmarks.md_speed                       all parts that are not in --work yet, then table and JSON
    python -m benchmarks.md_speed --parts single-alanine-dipeptide replicas-alanine-dipeptide
    python -m benchmarks.md_speed --list

A part is one file in ``--work``, measured in one process on one core with all its contenders interleaved (see
``benchmarks.timing``), so that ratios are inside one run; parts make the whole fit into short slots. All contenders
take 4 fs steps with HBonds constraints and the Langevin middle integrator, on the faster of OpenMM's Reference and
(one-thread) CPU platforms for the classical ones and on Reference for the learned ones. The network of alanine
dipeptide is the shipped one; the others have its size and random weights, which cost the same.

OpenMM's CPU platform hands every step to a thread. On the machine where this was written a GB step of alanine dipeptide
took 0.13 ms of it while other work kept the cores awake, and 0.6 to 1.1 ms on idle cores; so the ratio to the best
single repeat of a GB model is claimed beside the usual one.

Claims are made from processor time unless ``--clock wall`` is given, which is right on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load

from benchmarks import engines
from benchmarks.result import Claim, machine, write_result
from benchmarks.timing import Spread, interleaved, ratio
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.bind import Backend, ForceField, load_forcefield
from mlsim.md.classical import Vacuum
from mlsim.md.integrator import SLOW_GROUP, canonical
from mlsim.md.potential import build_system
from mlsim.md.prepare import minimise
from mlsim.models.issnet import ISSNetSettings
from mlsim.units import FS_PER_PS, PS_PER_NS, SECONDS_PER_DAY

SYSTEMS = ("alanine-dipeptide", "alanine-tripeptide", "chignolin")
REPLICAS = (1, 4, 16, 64)
LENGTHS = (2, 4, 8, 12, 16, 20)
MULTIPLE = ((4.0, 1), (4.0, 2), (8.0, 2), (8.0, 4))
FORCEFIELD = "issnet-ala2"
TORCH: tuple[Backend, ...] = ("eager", "torchscript")
NS_PER_STEP = engines.TIMESTEP_FS / FS_PER_PS / PS_PER_NS

Rates = dict[str, list[float]]


def subject(name: str, place: Path) -> tuple[Molecule, ForceField, ISSNetSettings, np.ndarray]:
    """Molecule, network, its size, and minimised positions."""
    molecule = load_system(name)
    shipped = load_forcefield(forcefield_directory(FORCEFIELD))
    config = ISSNetSettings.parse(dict(shipped.artifact.config), FORCEFIELD)
    field = shipped if name == SYSTEMS[0] else engines.force_field(config, molecule, place)
    system = build_system(molecule, Vacuum(), "hbonds", engines.SETTINGS.hydrogen_mass_Da)
    return molecule, field, config, minimise(system, molecule.positions, engines.SETTINGS, 100)


def single(name: str, place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """One molecule, every contender."""
    molecule, field, config, start = subject(name, place)
    made: dict[str, engines.Engine] = {
        "vacuum": engines.classical("vacuum", molecule),
        "obc2": engines.classical("obc2", molecule),
        "obc2, native GBSAOBCForce": engines.native_obc2(molecule),
        "gbn2": engines.classical("gbn2", molecule),
        "tip3p": engines.classical("tip3p", molecule),
        "issnet, compiled": engines.learned(field, molecule, "compiled", start),
        **{f"issnet, {b}": engines.learned(field, molecule, b, start) for b in TORCH},
        "schnet of PyTorch Geometric": engines.pyg(config, molecule, start),
    }
    bridge = engines.through_torchforce(field, molecule, start)
    if bridge is not None:
        made["issnet, TorchForce"] = bridge
    rates, wall = interleaved({k: e.step for k, e in made.items()}, rounds, seconds)
    pairs = engines.pairs_within(molecule, config.cutoff_nm, start)
    work = engines.multiplications(config, molecule.n_atoms, pairs)
    peak = engines.peak_gflops()
    return {
        "system": name,
        "atoms": molecule.n_atoms,
        "pairs": pairs,
        "platforms": {k: e.platform for k, e in made.items()},
        "rates": rates,
        "wall": wall,
        "multiply_adds": work,
        "peak_gflops": peak,
        "arithmetic_limit_us": 2 * work / peak / 1e3,
    }


def replicas(name: str, place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """1 to 64 copies: independent Contexts, one Context, and the torch roads in one Context."""
    molecule, field, config, start = subject(name, place)
    made: dict[str, engines.Engine] = {}
    for copies in REPLICAS:
        made[f"issnet, compiled, independent x{copies}"] = engines.several(field, molecule, copies, start)
        made[f"issnet, compiled, one Context x{copies}"] = engines.together(field, molecule, copies, start)
        made[f"vacuum, one Context x{copies}"] = engines.together(None, molecule, copies, start)
        for backend in TORCH:
            made[f"issnet, {backend}, one Context x{copies}"] = engines.together(
                field, molecule, copies, start, backend
            )
        made[f"schnet of PyTorch Geometric, one Context x{copies}"] = engines.pyg_together(
            config, molecule, copies, start
        )
    steps, wall = interleaved({k: e.step for k, e in made.items()}, rounds, seconds)
    rates = {k: [r * made[k].copies for r in v] for k, v in steps.items()}
    return {
        "system": name,
        "atoms": molecule.n_atoms,
        "rates": rates,
        "wall": {k: [r * made[k].copies for r in v] for k, v in wall.items()},
    }


def multiple(name: str, place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Multiple time step: (outer step, inner steps) with the compiled network; rates in ns per day."""
    molecule, field, _, start = subject(name, place)
    work: dict[str, Callable[[int], None]] = {}
    factor = {}
    for dt, inner in MULTIPLE:
        settings = engines.SETTINGS.model_copy(update={"timestep_fs": dt, "mts_inner_steps": inner})
        system = build_system(molecule, Vacuum(), "hbonds", settings.hydrogen_mass_Da)
        force = engines.python_force(field.bind(molecule), molecule.n_atoms)
        force.setForceGroup(SLOW_GROUP)
        system.addForce(force)
        made = engines.engine(
            system,
            start,
            engines.REFERENCE,
            lambda s=settings, y=system: canonical(s, y, 7),  # type: ignore[misc]
        )
        label = f"{dt:g} fs, {inner} inner"
        work[label], factor[label] = made.step, dt / FS_PER_PS / PS_PER_NS * SECONDS_PER_DAY
    rates, _ = interleaved(work, rounds, seconds)
    return {
        "system": name,
        "atoms": molecule.n_atoms,
        "ns_per_day": {k: Spread.of([r * factor[k] for r in v]).record() for k, v in rates.items()},
    }


def lengths(place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """ACE-(ALA)n-NME, extended: one evaluation of the network, and one step with it."""
    shipped = load_forcefield(forcefield_directory(FORCEFIELD))
    config = ISSNetSettings.parse(dict(shipped.artifact.config), FORCEFIELD)
    work: dict[str, Callable[[int], None]] = {}
    facts: dict[int, dict[str, Any]] = {}
    for n in LENGTHS:
        molecule = build("-".join(["ACE", *["ALA"] * n, "NME"]), f"ala{n}")
        bound = engines.force_field(config, molecule, place).bind(molecule, "compiled")
        evaluator, x = bound.evaluator, molecule.positions

        def evaluate(units: int, evaluator: Any = evaluator, x: np.ndarray = x) -> None:
            for _ in range(units):
                evaluator.energy_forces(x)

        work[f"evaluation {n}"] = evaluate
        work[f"step {n}"] = engines.learned(bound.field, molecule, "compiled", molecule.positions).step
        facts[n] = {"atoms": molecule.n_atoms, "pairs": engines.pairs_within(molecule, config.cutoff_nm, x)}
    rates, _ = interleaved(work, rounds, seconds)
    for n, row in facts.items():
        row["evaluation_us"] = Spread.of([1e6 / r for r in rates[f"evaluation {n}"]]).record()
        row["step_us"] = Spread.of([1e6 / r for r in rates[f"step {n}"]]).record()
    return {"residues": {str(n): row for n, row in facts.items()}}


PARTS: dict[str, Callable[[Path, int, float], dict[str, Any]]] = {
    **{f"single-{s}": lambda *a, s=s: single(s, *a) for s in SYSTEMS},  # type: ignore[misc]
    **{f"replicas-{s}": lambda *a, s=s: replicas(s, *a) for s in SYSTEMS},  # type: ignore[misc]
    **{f"multiple-{s}": lambda *a, s=s: multiple(s, *a) for s in SYSTEMS},  # type: ignore[misc]
    "lengths": lengths,
}


def rows_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The table: one row per contender."""
    rows = []
    for name, rates in part["rates"].items():
        spread, waiting = Spread.of(rates), Spread.of(part["wall"][name])
        rows.append(
            {
                "system": part["system"],
                "contender": name,
                "platform": part.get("platforms", {}).get(name, "Reference"),
                "steps_per_s": spread.record(),
                "ns_per_day": float(f"{spread.median * NS_PER_STEP * SECONDS_PER_DAY:.4g}"),
                "us_per_step": float(f"{1e6 / spread.median:.4g}"),
                "wall_steps_per_s": waiting.record(),
            }
        )
    return rows


def claims_of(parts: dict[str, dict[str, Any]], clock: str) -> list[Claim]:
    """Every claim whose part was measured; medians of ratios inside one part, with smallest and largest.

    ``clock`` is ``rates`` (processor time) or ``wall``.
    """
    found: list[Claim] = []

    def add(number: str, text: str, spread: Spread, bound: float, at_most: bool = False) -> None:
        holds = spread.median <= bound if at_most else spread.median >= bound
        text = f"{text} (repeats {spread.least:.3g} to {spread.most:.3g})"
        found.append(Claim(number, text, spread.median, f"{'<=' if at_most else '>='} {bound:g}", holds))

    ours, pyg = "issnet, compiled", "schnet of PyTorch Geometric"
    for system in SYSTEMS:
        part = parts.get(f"single-{system}")
        if part is None:
            continue
        rates: Rates = part[clock]
        gb = max(("obc2", "gbn2"), key=lambda k: np.median(rates[k]))
        number, factor = ("3.4", 2.0) if system == "chignolin" else ("3.1", 5.0)
        add(number, f"{system}: steps/s over the faster GB model ({gb})", ratio(rates, ours, gb), factor)
        best = max(max(rates[k]) for k in ("obc2", "gbn2"))
        against_best = Spread.of([r / best for r in rates[ours]])
        add(number, f"{system}: steps/s over the best single repeat of either GB model", against_best, factor)
        native = "obc2, native GBSAOBCForce"
        add(number, f"{system}: steps/s over OBC2 by native GBSAOBCForce", ratio(rates, ours, native), factor)
        add("3.3", f"{system}: steps/s over PyTorch Geometric's SchNet", ratio(rates, ours, pyg), 20.0)
        if system == SYSTEMS[0]:
            add("3.1", f"{system}: steps/s over explicit TIP3P", ratio(rates, ours, "tip3p"), 50.0)
            cost = Spread.of([1e3 / r for r in rates[ours]])
            add("3.1", f"{system}: ms per step in all", cost, 0.15, at_most=True)
    for system in SYSTEMS:
        part = parts.get(f"replicas-{system}")
        if part is None:
            continue
        for way in ("independent", "one Context"):
            name = f"issnet, compiled, {way} x64"
            gain = ratio(part[clock], name, "issnet, compiled, independent x1")
            add("3.2", f"{system}: 64 replicas, {way}: aggregate rate per core over a single replica", gain, 3.0)
    part = parts.get("lengths")
    if part is not None:
        rows = part["residues"]
        per_atom = {n: row["evaluation_us"]["median"] / row["atoms"] for n, row in rows.items()}
        growth = per_atom["20"] / per_atom["12"]
        add("3.6", "evaluation cost per atom, 20 residues over 12", Spread.of([growth]), 1.15, at_most=True)
    return found


def main() -> None:
    """Measure the parts that are missing; print the table; write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    parser.add_argument("--work", type=Path, default=Path("runs/md_speed"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="processor time per contender and round")
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor", help="for the claims")
    given = parser.parse_args()
    if given.list:
        print("\n".join(PARTS))
        return
    engines.one_thread()
    given.work.mkdir(parents=True, exist_ok=True)
    for name in given.parts:
        path = given.work / f"{name}.json"
        if not path.exists():
            content = {**PARTS[name](given.work, given.rounds, given.seconds), "machine": machine()}
            path.write_text(json.dumps(content) + "\n")
            print(f"measured {name}", flush=True)
    parts = {name: json.loads(p.read_text()) for name in PARTS if (p := given.work / f"{name}.json").exists()}
    rows: list[dict[str, Any]] = []
    for name, part in parts.items():
        if "rates" in part:
            rows += rows_of(part)
            limits = ("arithmetic_limit_us", "peak_gflops", "multiply_adds", "pairs", "atoms")
            rows.append({"part": name, **{k: part[k] for k in limits if k in part}})
        else:
            rows.append({"part": name, **{k: v for k, v in part.items() if k != "machine"}})
    for row in rows:
        if "contender" in row:
            spread = row["steps_per_s"]
            print(
                f"{row['system']:20s} {row['contender']:46s} {row['platform']:9s} {row['us_per_step']:10.1f} us "
                f"{row['ns_per_day']:9.1f} ns/day  steps/s {spread['least']:.4g} - {spread['most']:.4g}"
            )
        else:
            print(json.dumps(row))
    clock = "wall" if given.clock == "wall" else "rates"
    missing = [name for name in PARTS if name not in parts]
    if missing:
        print(f"not measured yet: {', '.join(missing)}")
    write_result("md_speed", question=__doc__.splitlines()[0], rows=rows, claims=claims_of(parts, clock))


if __name__ == "__main__":
    main()

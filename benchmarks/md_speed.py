"""How many steps per second does one core do: vacuum, GB, TIP3P, and ISSNet by every road, alone and as replicas?

    python -m benchmarks.md_speed --list                     names of the parts
    python -m benchmarks.md_speed --parts single-chignolin   measures them again; all other parts stay in the result
    python -m benchmarks.md_speed                            every part that the result does not have yet
    python -m benchmarks.md_speed --parts                    nothing; prints table and claims of the result

A part is measured in one process on one core with all its contenders interleaved (see ``benchmarks.timing``), so that
ratios are inside one run; it takes at most four minutes on a quiet machine. The result file holds every repeat, and
claims are made from it. All contenders take 4 fs steps with HBonds constraints and the Langevin middle integrator, on
the faster of OpenMM's Reference and (one-thread) CPU platforms for the classical ones and on Reference for the learned
ones. The network of alanine dipeptide is the shipped one; the others have its size and random weights, which cost the
same. ``issnet, compiled`` computes the molecular mechanics in the callback of the network, as runs do; in ``mechanics
apart`` and in all other learned rows, one Context of many copies among them, OpenMM does. ``every 2`` evaluates the
network at every second step (``learned_every``, see ``benchmarks.timestep`` for what that does to the physics).

OpenMM's CPU platform hands every step to a thread. On one machine a GB step of alanine dipeptide took 0.13 ms of it
while other work kept the cores awake, and 0.6 to 1.1 ms on idle cores; so the ratio to the best single repeat of a GB
model is claimed beside the usual one, and the ratio to OpenMM's hand-written ``GBSAOBCForce``, which its force-field
files do not use (mlsim's ``obc2`` does), as well.

Claims are made from processor time unless ``--clock wall`` is given, which is right on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401 - before openmm, or the Torch plugin fails to load

from benchmarks import engines
from benchmarks.result import RESULTS, Claim, write_result
from benchmarks.timing import Spread, interleaved, ratio
from mlsim.chem.catalog import forcefield_directory, load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import build
from mlsim.deploy.bind import Backend, ForceField, load_forcefield
from mlsim.md.integrator import SLOW_GROUP, canonical
from mlsim.md.prepare import minimise
from mlsim.models.issnet.solvation import ISSNetSettings
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.units import FS_PER_PS, PS_PER_NS, SECONDS_PER_DAY

SYSTEMS = ("alanine-dipeptide", "alanine-tripeptide", "chignolin")
REPLICAS = (1, 4, 16, 64)
LENGTHS = (2, 4, 8, 12, 16, 20)
MULTIPLE = ((4.0, 1), (4.0, 2), (8.0, 2), (8.0, 4))
FORCEFIELD = "issnet-ala2"
TORCH: tuple[Backend, ...] = ("eager", "torchscript", "static")
#: Multiply-adds of the core at their best, timed among the contenders.
PEAK = "products in cache"
#: The compiled network with the molecular mechanics left to OpenMM.
APART = "issnet, compiled, mechanics apart"
#: Who computes the molecular mechanics beside the compiled network (parts that an earlier version measured: OpenMM).
WHERE = "in the callback of the network"
#: Parts of a step, timed alone.
FREE, MECHANICS = "integrator without forces", "molecular mechanics in the callback"
#: A single replica beside which many are timed.
ALONE = "issnet, compiled, alone"
#: Copies times pairs of one copy above which the torch roads are left out: their memory grows with it (to many GB).
LARGEST = 64 * 22**2 * 4
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
        "obc2": engines.of_file("obc2", molecule),
        "obc2, native GBSAOBCForce": engines.classical("obc2", molecule),
        "gbn2": engines.of_file("gbn2", molecule),
        "tip3p": engines.classical("tip3p", molecule),
        "issnet, compiled": engines.learned(field, molecule, "compiled", start),
        APART: engines.apart(field, molecule, start),
        "issnet, compiled, every 2": engines.seldom(field, molecule, start, 2),
        **{f"issnet, {b}": engines.learned(field, molecule, b, start) for b in TORCH},
        "schnet of PyTorch Geometric": engines.pyg(config, molecule, start),
    }
    bridge = engines.through_torchforce(field, molecule, start)
    if bridge is not None:
        made["issnet, TorchForce"] = bridge
    work: dict[str, Callable[[int], None]] = {k: e.step for k, e in made.items()}
    work |= {FREE: engines.free(molecule, start).step, MECHANICS: engines.mechanics_alone(molecule, start)}
    rates, wall = interleaved({**work, PEAK: engines.products_in_cache()}, rounds, seconds)
    pairs = engines.pairs_within(molecule, config.cutoff_nm, start)
    count = engines.multiplications(config, molecule.n_atoms, pairs)
    peak = float(np.median(rates.pop(PEAK))) * engines.PRODUCTS
    wall.pop(PEAK)
    return {
        "system": name,
        "mechanics": WHERE,
        "atoms": molecule.n_atoms,
        "pairs": pairs,
        "platforms": {k: e.platform for k, e in made.items()},
        "rates": rates,
        "wall": wall,
        "multiply_adds": count,
        "peak_multiply_adds_per_ns": peak / 1e9,
        "arithmetic_limit_us": 1e6 * count / peak,
        "vacuum_us": float(1e6 / np.median(rates["vacuum"])),
        "integrator_us": float(1e6 / np.median(rates[FREE])),
        "mechanics_us": float(1e6 / np.median(rates[MECHANICS])),
    }


def replicas(name: str, copies: int, place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """So many copies: independent Contexts, one Context, and the torch roads in one Context; beside one copy alone."""
    molecule, field, config, start = subject(name, place)
    made: dict[str, engines.Engine] = {
        ALONE: engines.several(field, molecule, 1, start),
        f"vacuum, one Context x{copies}": engines.together(None, molecule, copies, start),
        f"issnet, compiled, independent x{copies}": engines.several(field, molecule, copies, start),
        f"issnet, compiled, one Context x{copies}": engines.together(field, molecule, copies, start),
        f"issnet, compiled, own streams x{copies}": engines.own_streams(field, molecule, copies, start),
    }
    if copies * molecule.n_atoms**2 <= LARGEST:
        for backend in TORCH:
            made[f"issnet, {backend}, one Context x{copies}"] = engines.together(
                field, molecule, copies, start, backend
            )
        made[f"schnet of PyTorch Geometric, one Context x{copies}"] = engines.pyg_together(
            config, molecule, copies, start
        )
    steps, wall = interleaved({k: e.step for k, e in made.items()}, rounds, seconds)
    return {
        "system": name,
        "mechanics": WHERE,
        "atoms": molecule.n_atoms,
        "rates": {k: [r * made[k].copies for r in v] for k, v in steps.items()},
        "wall": {k: [r * made[k].copies for r in v] for k, v in wall.items()},
    }


def multiple(name: str, place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Multiple time step by OpenMM's integrator and by impulses; rates in steps of 4 fs that cover the same time."""
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
        label = f"issnet, compiled, {dt:g} fs, {inner} inner steps"
        work[label], factor[label] = made.step, dt / engines.TIMESTEP_FS
    for every in (1, 2):
        label = f"issnet, compiled, 4 fs, every {every}"
        work[label], factor[label] = engines.seldom(field, molecule, start, every).step, 1.0
    rates, wall = interleaved(work, rounds, seconds)
    return {
        "system": name,
        "mechanics": WHERE,
        "atoms": molecule.n_atoms,
        "rates": {k: [r * factor[k] for r in v] for k, v in rates.items()},
        "wall": {k: [r * factor[k] for r in v] for k, v in wall.items()},
    }


def lengths(place: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """ACE-(ALA)n-NME, extended: one evaluation of the network, and one step with it."""
    shipped = load_forcefield(forcefield_directory(FORCEFIELD))
    config = ISSNetSettings.parse(dict(shipped.artifact.config), FORCEFIELD)
    work: dict[str, Callable[[int], None]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for n in LENGTHS:
        molecule = build("-".join(["ACE", *["ALA"] * n, "NME"]), f"ala{n}")
        bound = engines.force_field(config, molecule, place).bind(molecule, "compiled")
        evaluator, x = bound.evaluator, molecule.positions

        def evaluate(units: int, evaluator: Any = evaluator, x: np.ndarray = x) -> None:
            for _ in range(units):
                evaluator.energy_forces(x)

        work[f"evaluation {n}"] = evaluate
        work[f"step {n}"] = engines.learned(bound.field, molecule, "compiled", molecule.positions).step
        facts[str(n)] = {"atoms": molecule.n_atoms, "pairs": engines.pairs_within(molecule, config.cutoff_nm, x)}
    rates, wall = interleaved(work, rounds, seconds)
    return {"system": "ACE-ALA(n)-NME", "mechanics": WHERE, "rates": rates, "wall": wall, "residues": facts}


#: What a part knows of each contender.
_PER_CONTENDER = ("rates", "wall", "platforms")
PARTS: dict[str, Callable[[Path, int, float], dict[str, Any]]] = {
    **{f"single-{s}": lambda *a, s=s: single(s, *a) for s in SYSTEMS},  # type: ignore[misc]
    **{f"replicas-{s}-{n}": lambda *a, s=s, n=n: replicas(s, n, *a) for s in SYSTEMS for n in REPLICAS},  # type: ignore[misc]
    **{f"multiple-{s}": lambda *a, s=s: multiple(s, *a) for s in SYSTEMS},  # type: ignore[misc]
    "lengths": lengths,
}


def rows_of(name: str, part: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of one part: a row with what is true of it, then one per contender with every repeat."""
    rows: list[dict[str, Any]] = [{"part": name, **{k: v for k, v in part.items() if k not in _PER_CONTENDER}}]
    for contender, rates in part["rates"].items():
        spread = Spread.of(rates)
        rows.append(
            {
                "part": name,
                "contender": contender,
                "platform": part.get("platforms", {}).get(contender, "Reference"),
                "us_per_step": Spread.of([1e6 / r for r in rates]).record(),
                "ns_per_day": float(f"{spread.median * NS_PER_STEP * SECONDS_PER_DAY:.4g}"),
                "steps_per_s": [float(f"{r:.5g}") for r in rates],
                "wall_steps_per_s": [float(f"{r:.5g}") for r in part["wall"][contender]],
            }
        )
    return rows


def parts_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The parts that a table holds: the reverse of :func:`rows_of`."""
    parts: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "contender" not in row:
            parts[row["part"]] = {**row, "rates": {}, "wall": {}}
        else:
            parts[row["part"]]["rates"][row["contender"]] = row["steps_per_s"]
            parts[row["part"]]["wall"][row["contender"]] = row["wall_steps_per_s"]
    return parts


def claims_of(parts: dict[str, dict[str, Any]], clock: str) -> list[Claim]:
    """Every claim whose part was measured; medians of ratios inside one part, with smallest and largest.

    ``clock`` is ``rates`` (processor time) or ``wall``.
    """
    found: list[Claim] = []

    def add(number: str, text: str, spread: Spread, bound: float, at_most: bool = False) -> None:
        holds = spread.median <= bound if at_most else spread.median >= bound
        text = f"{text} (repeats {spread.least:.3g} to {spread.most:.3g})"
        found.append(Claim(number, text, spread.median, f"{'<=' if at_most else '>='} {bound:g}", holds))

    ours, seldom, pyg = "issnet, compiled", "issnet, compiled, every 2", "schnet of PyTorch Geometric"
    native = "obc2, native GBSAOBCForce"
    for system in SYSTEMS:
        part = parts.get(f"single-{system}")
        if part is None:
            continue
        rates: Rates = part[clock]
        gb = max(("obc2", "gbn2"), key=lambda k: np.median(rates[k]))
        best = max(max(rates[k]) for k in ("obc2", "gbn2"))
        number, factor = ("3.4", 2.0) if system == "chignolin" else ("3.1", 5.0)
        for which, name in (("", ours), (", solvent every 2 steps", seldom)):
            subject_ = f"{system}{which}"
            add(number, f"{subject_}: steps/s over the faster GB model ({gb})", ratio(rates, name, gb), factor)
            against_best = Spread.of([r / best for r in rates[name]])
            add(number, f"{subject_}: steps/s over the best single repeat of either GB model", against_best, factor)
            add(number, f"{subject_}: steps/s over OBC2 by native GBSAOBCForce", ratio(rates, name, native), factor)
        add("3.3", f"{system}: steps/s over PyTorch Geometric's SchNet", ratio(rates, ours, pyg), 20.0)
        if system == SYSTEMS[0]:
            add("3.1", f"{system}: steps/s over explicit TIP3P", ratio(rates, ours, "tip3p"), 50.0)
            cost = Spread.of([1e3 / r for r in rates[ours]])
            add("3.1", f"{system}: ms per step in all", cost, 0.15, at_most=True)
    for system in SYSTEMS:
        part = parts.get(f"replicas-{system}-64")
        if part is None:
            continue
        for way in ("independent", "one Context"):
            gain = ratio(part[clock], f"issnet, compiled, {way} x64", ALONE)
            add("3.2", f"{system}: 64 replicas, {way}: aggregate rate per core over a single replica", gain, 3.0)
        single_ = parts.get(f"single-{system}")
        if single_ is not None and "integrator_us" in single_:
            alone = 1e6 / float(np.median(single_[clock][ours]))
            most = alone / (single_["arithmetic_limit_us"] + single_["integrator_us"])
            text = (
                f"{system}: largest gain that any number of replicas can have, with the network's multiplications at "
            )
            text += "the peak of the core, OpenMM's integrator, and everything else for nothing"
            add("3.2", text, Spread.of([most]), 3.0)
    part = parts.get("lengths")
    if part is not None:
        atoms = {n: row["atoms"] for n, row in part["residues"].items()}
        cost_of = {n: 1e6 / float(np.median(part[clock][f"evaluation {n}"])) / atoms[n] for n in atoms}
        growth = cost_of["20"] / cost_of["12"]
        add("3.6", "evaluation cost per atom, 20 residues over 12", Spread.of([growth]), 1.15, at_most=True)
    return found


def earlier() -> dict[str, dict[str, Any]]:
    """Parts that the result file holds."""
    path = RESULTS / "md_speed.json"
    return parts_of(json.loads(path.read_text())["rows"]) if path.exists() else {}


def write(parts: dict[str, dict[str, Any]], clock: str) -> None:
    """Put all parts into the result file, in the order of ``PARTS``."""
    rows = [row for name in PARTS if name in parts for row in rows_of(name, parts[name])]
    write_result("md_speed", question=__doc__.splitlines()[0], rows=rows, claims=claims_of(parts, clock))


def main() -> None:
    """Measure parts, put them into the result, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), metavar="PART", help="default: what is missing")
    parser.add_argument("--list", action="store_true", help="print the parts and stop")
    parser.add_argument("--work", type=Path, default=Path("runs/md_speed"), help="for networks of random weights")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="processor time per contender and round")
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor", help="for the claims")
    given = parser.parse_args()
    if given.list:
        print("\n".join(PARTS))
        return
    engines.one_thread()
    given.work.mkdir(parents=True, exist_ok=True)
    parts, clock = earlier(), "wall" if given.clock == "wall" else "rates"
    wanted = [name for name in PARTS if name not in parts] if given.parts is None else given.parts
    for name in wanted:
        began = time.monotonic()
        parts[name] = PARTS[name](given.work, given.rounds, given.seconds)
        write(parts, clock)
        print(f"measured {name} in {time.monotonic() - began:.0f} s", flush=True)
    for name, part in parts.items():
        for row in rows_of(name, part)[1:]:
            cost = row["us_per_step"]
            print(
                f"{name:32s} {row['contender']:46s} {row['platform']:9s} {cost['median']:10.1f} us "
                f"({cost['least']:.4g} - {cost['most']:.4g}) {row['ns_per_day']:9.1f} ns/day"
            )
    missing = [name for name in PARTS if name not in parts]
    if missing:
        print(f"not measured yet: {', '.join(missing)}")
    write(parts, clock)


if __name__ == "__main__":
    main()

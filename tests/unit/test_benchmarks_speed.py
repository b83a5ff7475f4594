"""The speed benchmarks measure what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import md_speed
from benchmarks.engines import multiplications, pairs_within
from benchmarks.pyg_schnet import PygEnergy
from benchmarks.timing import Spread, interleaved, ratio
from mlsim.chem.molecule import Molecule
from mlsim.models.issnet.solvation import ISSNetSettings


def spin(units: int, loops: int) -> None:
    for _ in range(units * loops):
        pass


def test_a_contender_with_ten_times_the_work_is_about_ten_times_slower() -> None:
    work = {"light": lambda n: spin(n, 2000), "heavy": lambda n: spin(n, 20000)}
    rates, wall = interleaved(work, 3, 0.02)
    assert {len(v) for v in (*rates.values(), *wall.values())} == {3}
    assert 5 < ratio(rates, "light", "heavy").median < 20


def test_ratios_are_made_round_by_round() -> None:
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == Spread(2.0, 3.0, 4.0)


def test_claims_follow_from_the_measured_rates() -> None:
    names = ("vacuum", "obc2", "gbn2", "tip3p", "obc2, native GBSAOBCForce", "schnet of PyTorch Geometric")
    rates: dict[str, Any] = {name: [1000.0] * 3 for name in names}
    rates["issnet, compiled"] = [6000.0, 7000.0, 8000.0]
    rates["issnet, compiled, every 2"] = [9000.0, 9000.0, 9000.0]
    part = {"rates": rates, "wall": {**rates, "obc2": [5000.0] * 3}}
    parts = {"single-alanine-dipeptide": part}
    found = {(c.id, c.claim.split(" (repeats")[0]): c for c in md_speed.claims_of(parts, "rates")}
    gb = found["3.1", "alanine-dipeptide: steps/s over the faster GB model (obc2)"]
    assert (gb.value, gb.holds) == (7.0, True)
    assert not found["3.3", "alanine-dipeptide: steps/s over PyTorch Geometric's SchNet"].holds
    assert found["3.1", "alanine-dipeptide: ms per step in all"].value == pytest.approx(1 / 7)
    by_wall = next(c for c in md_speed.claims_of(parts, "wall") if "faster GB" in c.claim)
    assert (by_wall.value, by_wall.holds) == (1.4, False)


def test_every_part_is_reachable() -> None:
    alone = {f"{kind}-{s}" for kind in ("single", "multiple") for s in md_speed.SYSTEMS}
    several = {f"replicas-{s}-{n}" for s in md_speed.SYSTEMS for n in (1, 4, 16, 64)}
    assert alone | several | {"lengths"} == set(md_speed.PARTS)


def test_the_table_holds_every_repeat_so_that_claims_can_be_made_again_from_it() -> None:
    part = {"system": "x", "atoms": 3, "rates": {"a": [1.0, 2.0]}, "wall": {"a": [0.5, 1.0]}, "platforms": {"a": "CPU"}}
    rows = md_speed.rows_of("single-x", part)
    again = md_speed.parts_of(rows)["single-x"]
    assert (again["rates"], again["wall"], again["atoms"]) == (part["rates"], part["wall"], 3)
    assert rows[1]["platform"] == "CPU"


def test_the_arithmetic_of_the_default_network_is_about_a_million_multiply_adds(ala2: Molecule) -> None:
    config = ISSNetSettings()
    pairs = pairs_within(ala2, config.cutoff_nm, ala2.positions)
    assert pairs <= 231
    assert 0.9e6 < multiplications(config, 22, pairs) < 1.5e6


def test_forces_of_the_compared_network_are_the_gradient_of_its_energy(ala2: Molecule) -> None:
    evaluator = PygEnergy(ISSNetSettings(features=16, n_radial=8), 22, scale=1.0)
    evaluator.net.double()
    energies, forces = evaluator.evaluate(np.stack([ala2.positions, 1.1 * ala2.positions]))
    assert evaluator.energy_forces(ala2.positions)[0] == pytest.approx(energies[0], rel=1e-5)
    step, x = 1e-3, ala2.positions
    for atom, axis in ((4, 0), (10, 2)):
        shift = np.zeros_like(x)
        shift[atom, axis] = step
        up, down = (evaluator.energy_forces(x + s * shift)[0] for s in (1, -1))
        assert forces[0, atom, axis] == pytest.approx(-(up - down) / (2 * step), rel=0.02, abs=0.02)

"""Water models by name: three and four sites run, are resumed, and are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openmm import Context, Platform, VerletIntegrator, app, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import WATER_MODELS
from mlsim.dataset import conditions
from mlsim.errors import InputError, SettingsError
from mlsim.md import prepare
from mlsim.md.engines.single import simulate
from mlsim.md.settings import ReferenceSettings, RunSettings
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.records import RunRecord
from mlsim.runs.trajectory import Replica
from mlsim.workflow.force_data.label import _take_box

SITES = {"tip3p": 3, "spce": 3, "tip4pew": 4, "opc": 4}


def test_every_model_has_its_number_of_sites_here() -> None:
    assert set(SITES) == set(WATER_MODELS)


@pytest.mark.parametrize("name", SITES)
def test_a_box_has_the_energy_of_openmm(ala2: Molecule, name: str) -> None:
    potential = resolve(name, PotentialRequest(ala2))
    water = potential.prepare(ala2)
    ours = build_system(water, potential, "hbonds", 1.5)
    virtual = [k for k in range(ours.getNumParticles()) if ours.isVirtualSite(k)]
    assert len(virtual) == ((water.n_atoms - ala2.n_atoms) // 4 if SITES[name] == 4 else 0)
    assert [water.elements[k] for k in virtual] == ["VS"] * len(virtual)
    assert not water.masses[virtual].any()
    theirs = app.ForceField("amber14/protein.ff14SB.xml", f"amber14/{name}.xml").createSystem(
        water.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, constraints=app.HBonds
    )
    found = []
    for system in (ours, theirs):
        context = Context(system, VerletIntegrator(1e-3), Platform.getPlatformByName("CPU"))
        context.setPositions(water.positions)
        context.computeVirtualSites()
        found.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_run_in_four_site_water_is_resumed_in_its_own_water(
    ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "NPT_PS", 0.08)
    settings = RunSettings.parse(
        {
            "solvent": "tip4pew",
            "ns": 4e-5,
            "report_ps": 0.02,
            "timestep_fs": 2,
            "platform": "CPU",
            "equilibration_ps": 0,
        }
    )
    potential = resolve("tip4pew", PotentialRequest(ala2))
    simulate(ala2, potential, settings, tmp_path / "run", 5)
    longer = settings.model_copy(update={"ns": 8e-5})
    simulate(ala2, potential, longer, tmp_path / "run", 5, "resume")
    run = Replica(tmp_path / "run")
    assert run.positions().shape == (4, 22, 3)
    assert np.isfinite(run.column("potential_kJ_mol")).all()
    record = RunRecord.read(tmp_path / "run")
    assert record.potential["water"] == "amber14/tip4pew.xml"
    found = conditions.known(record.model_dump())
    assert found is not None
    assert found.water == "amber14/tip4pew.xml"
    with pytest.raises(InputError, match="a box of tip4pew; expected one of tip3p"):
        _take_box(tmp_path / "run", tmp_path / "labels")


def test_what_earlier_runs_recorded_of_tip3p_stays_as_it_was() -> None:
    assert ExplicitWater().describe() == {"name": "tip3p", "padding_nm": 0.85, "nonbonded": "PME, 0.9 nm"}


@pytest.mark.parametrize(("name", "water"), [("TIP3P, 423 molecules", "amber14/tip3p.xml"), ("tip3p-fb", "tip3p-fb")])
def test_a_water_that_only_begins_like_tip3p_is_not_tip3p(name: str, water: str) -> None:
    found = conditions.known({"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml", "water": name})
    assert found is not None
    assert found.water == water


def test_settings_refuse_a_water_that_nobody_knows_and_one_that_gromacs_is_not_given() -> None:
    with pytest.raises(SettingsError, match="unknown water model 'tip4p'; did you mean"):
        ReferenceSettings.parse({"ns": 1.0, "solvent": "tip4p"})
    with pytest.raises(SettingsError, match="engine gromacs: expected solvent tip3p, got opc"):
        ReferenceSettings.parse({"ns": 1.0, "solvent": "opc", "engine": "gromacs"})

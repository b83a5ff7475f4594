"""Run alanine dipeptide in the learned solvent and in vacuum, evaluate frames, and draw both Ramachandran surfaces.

python examples/first_run.py --ns 2 -o runs/example
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlsim
from mlsim.analysis.figures import panels
from mlsim.analysis.samples import from_runs


def main() -> None:
    """Two runs, one evaluation, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ns", type=float, default=2.0, help="length of each run, ns")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/example"))
    given = parser.parse_args()

    surfaces = []
    for solvent in ("issnet", "vacuum"):
        settings = mlsim.RunSettings(system="alanine-dipeptide", solvent=solvent, ns=given.ns, seed=1, report_ps=0.2)
        mlsim.run(settings, given.output / solvent)
        made = mlsim.Run.open(given.output / solvent)
        surfaces.append(from_runs([made], ("phi", "psi"), discard_ps=100 * given.ns).surface())

    field = mlsim.load_forcefield("issnet-ala2").bind(mlsim.load_system("alanine-dipeptide"))
    positions = mlsim.Run.open(given.output / "issnet").replicas[0].positions()
    energies, forces = field.evaluate(positions)
    print(f"{len(energies)} frames, solvation energy {energies.mean():.1f} +- {energies.std():.1f} kJ/mol")
    print(f"root mean square solvent force {(forces**2).mean() ** 0.5:.0f} kJ/mol/nm")

    panels(surfaces, given.output / "ramachandran.png")
    print(f"figure in {given.output / 'ramachandran.png'}")


if __name__ == "__main__":
    main()

"""Water models of three and of four sites."""

from __future__ import annotations

from mlsim.chem.solvent import WaterModel

three_sites = WaterModel("amber14/tip3pfb.xml", "tip3p")


four_sites = WaterModel("amber14/tip4pfb.xml", "tip4pew")

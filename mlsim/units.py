"""Units and every conversion factor of the package.

Inside mlsim all plain numbers are in nm, ps, kJ/mol, e, Da, K and rad. A conversion literal anywhere
else in the package fails ``tests/test_house.py``. Values: CODATA 2018 (exact SI constants).
"""

from __future__ import annotations

#: Molar gas constant = Boltzmann constant per mole, kJ/mol/K.
GAS_CONSTANT = 0.00831446261815324
#: kJ per kcal (thermochemical calorie).
KJ_PER_KCAL = 4.184
#: Angstrom per nm.
ANGSTROM_PER_NM = 10.0
#: fs per ps.
FS_PER_PS = 1000.0
#: ps per ns.
PS_PER_NS = 1000.0
#: Seconds per day.
SECONDS_PER_DAY = 86400.0
#: Unit of time of the AKMA system (DCD headers), ps.
AKMA_PS = 0.04888821
#: Coulomb constant 1/(4 pi eps0), kJ nm / mol / e^2 (the value OpenMM uses).
COULOMB = 138.93545764438198


def kT(temperature_K: float) -> float:
    """Thermal energy in kJ/mol.

    Parameters
    ----------
    temperature_K : float
        Temperature, K.
    """
    return GAS_CONSTANT * temperature_K


def steps_for(time_ps: float, timestep_fs: float) -> int:
    """Whole number of integration steps that covers ``time_ps`` (rounded to nearest, at least 1)."""
    return max(1, round(time_ps * FS_PER_PS / timestep_fs))

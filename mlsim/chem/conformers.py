"""Starting conformations of a peptide, spread on purpose over backbone basins, rotamers and distances of charges.

A force-matching set needs the conformations that a simulation may ever visit, not those that one run happens to
visit: the mean solvent force at fixed solute does not depend on how probable the solute's conformation is. So the
starts are designed. Conformation k of a sequence takes, for every residue, the k-th entry of a shuffled list of
backbone basins and of side-chain rotamers (every list entry comes once before any comes twice), with some noise; and
where the peptide has charged groups, one pair of them is brought to the k-th of a list of distances between contact
and 1.3 nm, by 2 ps at 400 K in the OBC2 solvent under a harmonic restraint.

    U = U_ff14SB + U_OBC2 + K/2 (r_ij - d_k)^2

Symbols: K -> ``RESTRAINT_KJ_MOL_NM2``, d_k -> ``DISTANCES_NM``, i and j -> atoms in the middle of two charges.
Everything is drawn from a stream named by sequence and k: the same k is the same conformation on every machine.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from openmm import Context, CustomBondForce, LangevinMiddleIntegrator, LocalEnergyMinimizer, Platform, app

from mlsim.chem import checks
from mlsim.chem.molecule import Molecule
from mlsim.chem.peptide import SOLVATED_STEPS, TOLERANCE, Torsions, build
from mlsim.chem.sequence import C_CAPS, N_CAP, Sequence, parse
from mlsim.errors import InputError
from mlsim.seeds import numpy_stream, openmm_seed

#: Backbone basins (phi, psi), degrees: PII, beta, C5, alpha-R, bridge, alpha-L, C7ax.
BASINS = (
    (-70.0, 150.0),
    (-110.0, 130.0),
    (-150.0, 155.0),
    (-65.0, -42.0),
    (-90.0, 10.0),
    (57.0, 40.0),
    (70.0, -50.0),
)
#: Psi of proline, whose phi is bound to its ring, degrees.
PROLINE_PSI = (150.0, 130.0, -35.0, 75.0)
PROLINE_PHI = -65.0
#: Staggered side-chain torsions, degrees, and the standard deviation of the noise on every torsion.
ROTAMERS = (-65.0, 180.0, 60.0)
NOISE_DEG = 12.0
#: Distances to which a pair of charged groups is brought in turn, nm.
DISTANCES_NM = (0.36, 0.9, 0.5, 1.3, 0.7, 1.1)
RESTRAINT_KJ_MOL_NM2 = 3000.0
PULL_STEPS, PULL_TEMPERATURE_K, PULL_TIMESTEP_PS = 2000, 400.0, 0.001
#: Draws per conformation before it is given up.
ATTEMPTS = 40
#: Atom in the middle of the charge of a residue's side chain.
_CENTRES = {"LYS": "NZ", "ARG": "CZ", "HIP": "CE1", "ASP": "CG", "GLU": "CD"}


def conformer(sequence: str, number: int, name: str | None = None) -> Molecule:
    """Conformation ``number`` of a peptide.

    Parameters
    ----------
    sequence : str
        See :mod:`mlsim.chem.sequence`.
    number : int
        From 0; each number is another designed conformation.

    Returns
    -------
    Molecule
        Minimised, every check of :mod:`mlsim.chem.checks` passed.

    Raises
    ------
    InputError
        If the sequence cannot be read, or none of the draws gives a sound structure.
    """
    residues = parse(sequence)
    generator = numpy_stream(number, f"conformer/{residues.text}")
    failure = ""
    for _ in range(ATTEMPTS):
        try:
            molecule = build(sequence, name, designed_torsions(residues, number, generator))
            pulled = with_charges_apart(molecule, residues, number)
            checks.check(pulled).require(residues.text)
        except InputError as error:
            failure = str(error)
            continue
        return pulled
    raise InputError(f"{residues.text}: no sound conformation {number} in {ATTEMPTS} draws; the last one: {failure}")


def designed_torsions(sequence: Sequence, number: int, generator: np.random.Generator) -> list[Torsions]:
    """Torsions of conformation ``number``: entry ``number`` of every residue's shuffled lists, with noise."""
    order = numpy_stream(0, f"conformers/{sequence.text}")
    chain = []
    for residue in sequence.residues:
        basins, rotamers = order.permutation(len(BASINS)), [order.permutation(len(ROTAMERS)) for _ in range(4)]
        psi_of_proline = PROLINE_PSI[(int(order.integers(len(PROLINE_PSI))) + number) % len(PROLINE_PSI)]
        phi, psi = BASINS[basins[number % len(BASINS)]]
        # chi1 walks through its list with every number, chi2 with every third, so that all pairs come
        chi = [ROTAMERS[list_[number // len(ROTAMERS) ** k % len(ROTAMERS)]] for k, list_ in enumerate(rotamers)]
        noise = generator.normal(0.0, NOISE_DEG, 6)
        if residue == "PRO":
            chain.append(Torsions(phi=PROLINE_PHI, psi=psi_of_proline + noise[1]))
        else:
            turned = tuple(angle + shift for angle, shift in zip(chi, noise[2:], strict=True))
            chain.append(Torsions(phi=phi + noise[0], psi=psi + noise[1], chi=turned))
    return chain


def charged_groups(molecule: Molecule, sequence: Sequence) -> list[tuple[int, int]]:
    """``(atom in the middle of the charge, sign)`` of every charged group: side chains and uncapped ends."""
    states = sequence.states
    groups = []
    for position, (state, residue) in enumerate(zip(states, molecule.topology.residues(), strict=True)):
        atoms = {atom.name: atom.index for atom in residue.atoms()}
        if position == 0 and state != N_CAP:
            groups.append((atoms["N"], 1))
        if position == len(states) - 1 and state not in C_CAPS:
            groups.append((atoms["C"], -1))
        if state in _CENTRES:
            groups.append((atoms[_CENTRES[state]], -1 if state in ("ASP", "GLU") else 1))
    return groups


def with_charges_apart(molecule: Molecule, sequence: Sequence, number: int) -> Molecule:
    """The molecule with one pair of charged groups brought near the ``number``-th distance; others come back as is."""
    pairs = [(a, b) for (a, _), (b, _) in combinations(charged_groups(molecule, sequence), 2)]
    if not pairs:
        return molecule
    pair = pairs[number % len(pairs)]
    goal = DISTANCES_NM[number // len(pairs) % len(DISTANCES_NM)]
    system = molecule.system_template(app.NoCutoff, ("implicit/obc2.xml",))
    restraint = CustomBondForce("0.5 * strength * (r - goal)^2")
    restraint.addGlobalParameter("strength", RESTRAINT_KJ_MOL_NM2)
    restraint.addGlobalParameter("goal", goal)
    restraint.addBond(*pair)
    system.addForce(restraint)
    integrator = LangevinMiddleIntegrator(PULL_TEMPERATURE_K, 5.0, PULL_TIMESTEP_PS)
    integrator.setRandomNumberSeed(openmm_seed(number, f"pull/{sequence.text}"))
    context = Context(system, integrator, Platform.getPlatformByName("Reference"))
    context.setPositions(molecule.positions)
    LocalEnergyMinimizer.minimize(context, TOLERANCE, SOLVATED_STEPS)
    context.setVelocitiesToTemperature(PULL_TEMPERATURE_K, openmm_seed(number, f"pull velocities/{sequence.text}"))
    integrator.step(PULL_STEPS)
    LocalEnergyMinimizer.minimize(context, TOLERANCE, SOLVATED_STEPS)
    positions: NDArray[np.float64] = context.getState(positions=True).getPositions(asNumpy=True)._value
    return molecule.with_positions(positions)

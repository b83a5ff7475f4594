"""Learned solvents: networks fitted to the force of the solvent, to averaged labels, and to populations."""

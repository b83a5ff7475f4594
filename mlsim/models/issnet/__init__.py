"""ISSNet: the solvation free energy of a peptide as a continuous-filter network, and its quick forces for training."""

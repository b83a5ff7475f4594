"""A solvent for any peptide: long range by physics, short range by a network."""

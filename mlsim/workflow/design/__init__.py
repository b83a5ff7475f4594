"""Properties of peptides that a search asks for."""

"""Energy-based models: energies of molecules and images that are learned from samples alone."""

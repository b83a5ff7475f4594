"""Free-energy surfaces: histograms and basins they are made of, their file, and several taken together."""

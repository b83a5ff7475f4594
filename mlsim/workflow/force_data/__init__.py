"""Forces of explicit water on a solute: references, labels, sets of many peptides."""

"""Isomers of a formula: enumerated, embedded, recognised from coordinates, and sampled (needs RDKit)."""

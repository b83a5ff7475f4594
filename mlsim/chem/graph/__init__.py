"""Molecules as graphs: isomers of a formula, and bonds recognised from distances (extra ``molecules``)."""

"""GROMACS as an engine of reference runs and labels."""

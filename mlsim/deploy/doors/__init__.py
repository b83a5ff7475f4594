"""Doors from programs that people already use: OpenMM scripts, openmm-ml, ASE."""

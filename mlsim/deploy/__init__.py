"""Learned force fields as files, as compiled code, and as OpenMM forces: the only place torch meets OpenMM."""

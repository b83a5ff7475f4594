"""Readers: files and directories that become a Molecule."""

"""Methods: what moves particles towards a density, one method per file."""

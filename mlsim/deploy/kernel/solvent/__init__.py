"""The compiled form of a transferable solvent: the network's kernel with generalized Born around it."""

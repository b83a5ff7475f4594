"""Boxes: their overlap, which point answers for which box, and the loss."""

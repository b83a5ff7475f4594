"""What QuIP learns from and how: passages, facts, labels, the loop, and pre-training with its teacher."""

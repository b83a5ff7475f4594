"""Small images and their quarter turns: a network that does not see them, and the learning problem."""

"""What is simulated: molecules, how they are built, solvated and looked up."""

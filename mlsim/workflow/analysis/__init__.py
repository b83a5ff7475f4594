"""Free energies as whole tasks: from runs, trajectories, tables or surfaces to surfaces and verdicts."""

"""Tasks of ``mlsim.repr``: features of trajectories, boxes in surfaces and images, answers from texts."""

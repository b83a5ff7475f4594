"""From data to a training directory: baselines, ensembles, priors, rounds of active learning."""

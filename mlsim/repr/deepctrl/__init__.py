"""Rules with a dial: networks trained once whose strength of a rule is chosen when they are used.

    y = head(alpha z_rule(x), (1 - alpha) z_data(x)),      loss = alpha L_rule + rho (1 - alpha) L_task

with alpha drawn anew for every batch of training (Seo et al., NeurIPS 2021, arXiv:2106.07804). ``dial_network`` is
the model, ``rules`` and ``molecule_rules`` what it may obey, ``training`` the fit with its baselines, ``balance`` the
choice of rho, ``control`` sweeps and choices of alpha; ``propagation`` makes data.

    fit(network, rule, train, valid, settings, seed)                    # mlsim.repr.deepctrl.training
    network(x, alpha=0.3);  sweep(network, rule, x, y, alphas)          # mlsim.repr.deepctrl.control
"""

from __future__ import annotations

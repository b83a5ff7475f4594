"""Soft Q-learning for sequences: a causal language model learns to write what a reward function likes.

    Q_t = logits of the model,   pi = softmax(Q),   V = log sum exp Q;   at the optimum p(x) ~ exp(reward(x))

(Guo et al., Findings of EMNLP 2022, arXiv:2106.07704). ``path_losses`` the path consistencies and the baselines,
``policy`` the model with sampling and beam search, ``alphabet`` its letters, ``rewards`` and ``peptide_rewards`` what
is wanted, ``search`` the loop, resumable, ``diversity`` what a set of sequences is worth.
"""

from __future__ import annotations

"""BEiT (Bao et al., ICLR 2022, arXiv:2106.08254) on transformers' classes.

Pre-training = predict the visual words of masked patches; transformers brings the network, this package the
tokenizers, the masks, the initialisation, the loops, the maps and the readers of released weights.
"""

from __future__ import annotations

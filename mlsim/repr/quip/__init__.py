"""QuIP: token representations pretrained by question answering, and what they are good for.

A text is encoded once; a question becomes two vectors; its answer is the span whose first and last token have the
largest inner products with them (Jia, Lewis, Zettlemoyer 2021, arXiv:2106.08190). From that follow span search over a
library of texts (``tasks.phrase_index``), few-shot tagging that starts from questions (``tasks.tagging``), sentence
similarity (``tasks.similarity``) and classification without examples (``tasks.zero_shot``). ``learning`` holds what is
learned from and how, this folder the networks.

Written from the paper; the authors' code and weights are CC-BY-NC and not part of this package.
"""

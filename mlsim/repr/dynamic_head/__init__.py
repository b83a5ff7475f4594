"""Dynamic Head: an attention neck for object detectors, and a small detector for maps of molecular simulation.

    from mlsim.repr.dynamic_head.detector import Detector
    found = Detector.from_pretrained("maps").detect(image)      # boxes in pixels, scores, class names

Files: ``deform`` deformable convolution; ``attention`` its three attentions; ``block`` and ``neck`` the head;
``released`` weights published by others; ``pyramid`` backbone and FPN; ``losses``, ``boxes``, ``assign`` and
``detector`` the FCOS-type detector; ``fit`` its training; ``scene``, ``shapes``, ``landscape``, ``contacts`` images
with exact boxes; ``minima`` basins without learning; ``periodic`` detection on a torus.

Reference: Dai et al., CVPR 2021 (arXiv:2106.08322).
"""

"""Dynamic Head: an attention neck for object detectors, and a small detector for maps of molecular simulation.

    from mlsim.repr.dynamic_head.detector import Detector
    found = Detector.from_pretrained("maps").detect(image)      # boxes in pixels, scores, class names

Files: ``network/`` deformable convolution, its three attentions, the blocks and neck of the head, backbone and feature
pyramid; ``assignment/`` boxes, which point answers for which box, and the loss; ``detector`` the FCOS-type detector and
``detector_fit`` its training; ``scenes/`` images with exact boxes; ``released`` weights published by others; ``minima``
basins without learning; ``periodic`` detection on a torus; ``figure`` pictures.

Reference: Dai et al., CVPR 2021 (arXiv:2106.08322).
"""

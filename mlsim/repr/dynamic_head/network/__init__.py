"""The network: deformable convolution, three attentions, blocks, neck and pyramid."""

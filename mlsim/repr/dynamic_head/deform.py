r"""Modulated deformable convolution (DCNv2) in plain torch, by sampling the input on a moved grid.

    y(p) = b + sum_k w_k  m_k(p)  x(s p - pad + d k + o_k(p))

k runs over the kernel's points, o_k is a learned shift in pixels, m_k a learned weight in [0, 1]; x between pixels is
bilinear and zero outside the image.

Why by ``grid_sample``: it needs no compiled extension, its gradients come with torch, and on a CPU it is faster than
``torchvision.ops.deform_conv2d``, with which it agrees to rounding (tests). Only one offset group is written, because
Dynamic Head uses one. ``align_corners=False`` with pixel centres at (2 y + 1) / H - 1 is chosen because the other
convention divides by zero for an image of one row.

Symbols: x -> ``features``; w -> ``weight``; b -> ``bias``; o -> ``offset``; m -> ``mask``; s -> ``stride``;
pad -> ``padding``; d -> ``dilation``.

Reference: Zhu, Hu, Lin, Dai, CVPR 2019, arXiv:1811.11168.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlsim.errors import InputError


def deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Deformable convolution; without ``mask`` version 1, with it version 2.

    Parameters
    ----------
    features : Tensor [B, C, H, W]
    offset : Tensor [B, 2 K, h, w]
        Shifts in pixels of ``features``: down, right of kernel point 0, down, right of point 1, ...
    mask : Tensor [B, K, h, w] or None
    weight : Tensor [O, C, kh, kw]
        K = kh kw.
    bias : Tensor [O] or None
    stride, padding, dilation : int

    Returns
    -------
    Tensor [B, O, h, w]

    Raises
    ------
    InputError
        If the shapes do not belong together.
    """
    batch, channels, height, width = features.shape
    out, expected, kernel_h, kernel_w = weight.shape
    points = kernel_h * kernel_w
    rows = (height + 2 * padding - dilation * (kernel_h - 1) - 1) // stride + 1
    columns = (width + 2 * padding - dilation * (kernel_w - 1) - 1) // stride + 1
    if channels != expected:
        raise InputError(f"deform_conv2d: expected {expected} channels, got {channels}")
    for name, tensor, depth in (("offset", offset, 2 * points), ("mask", mask, points)):
        if tensor is not None and tensor.shape != (batch, depth, rows, columns):
            raise InputError(
                f"deform_conv2d: expected {name} of shape {[batch, depth, rows, columns]}, got {list(tensor.shape)}"
            )
    grid = _grid(offset, (kernel_h, kernel_w), (height, width), stride, padding, dilation)
    sampled = functional.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    sampled = sampled.view(batch, channels, points, rows * columns)
    if mask is not None:
        sampled = sampled * mask.reshape(batch, 1, points, rows * columns)
    mixed = weight.reshape(out, channels * points) @ sampled.reshape(batch, channels * points, rows * columns)
    if bias is not None:
        mixed = mixed + bias[:, None]
    return mixed.view(batch, out, rows, columns)


def _grid(
    offset: Tensor, kernel: tuple[int, int], size: tuple[int, int], stride: int, padding: int, dilation: int
) -> Tensor:
    """Sampling points [B, K h, w, 2] in the units of ``grid_sample`` (x, y in [-1, 1])."""
    batch, _, rows, columns = offset.shape
    points = kernel[0] * kernel[1]
    moved = offset.view(batch, points, 2, rows, columns)
    tap_y, tap_x, base_y, base_x = (
        torch.arange(count, dtype=offset.dtype, device=offset.device) for count in (*kernel, rows, columns)
    )
    tap_y = (tap_y * dilation - padding).repeat_interleave(kernel[1])
    tap_x = (tap_x * dilation - padding).repeat(kernel[0])
    y = moved[:, :, 0] + tap_y[:, None, None] + (base_y * stride)[:, None]
    x = moved[:, :, 1] + tap_x[:, None, None] + base_x * stride
    scaled = torch.stack([(2.0 * x + 1.0) / size[1] - 1.0, (2.0 * y + 1.0) / size[0] - 1.0], dim=-1)
    return scaled.view(batch, points * rows, columns, 2)


class DeformableConv(nn.Module):
    """3 x 3 deformable convolution with padding 1; without offsets it is the plain convolution of the same weights.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, features: Tensor, moves: tuple[Tensor, Tensor] | None) -> Tensor:
        """Convolve ``features`` [B, C, H, W] with ``moves`` = (offset, mask), or plainly if it is None."""
        if moves is None:
            return functional.conv2d(features, self.weight, self.bias, stride=self.stride, padding=1)
        offset, mask = moves
        return deform_conv2d(features, offset, mask, self.weight, self.bias, stride=self.stride, padding=1)

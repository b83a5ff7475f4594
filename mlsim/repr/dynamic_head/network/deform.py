r"""Modulated deformable convolution (DCNv2) in plain torch: the input is sampled on a moved grid.

    y(p) = b + sum_k w_k  m_k(p)  x(s p - pad + d k + o_k(p))

k runs over the kernel's points, o_k is a learned shift in pixels, m_k a learned weight in [0, 1]; x between pixels is
bilinear and zero outside the image.

How: the image, padded by a row and a column of zeros on every side, is a table with one row of C numbers per pixel.
Every sample is a weighted sum of four rows, weights (1 - f_y)(1 - f_x) m, ...; torch has that as one operation with
gradients, ``embedding_bag``.

Why not ``grid_sample``: its coordinates run from -1 to 1, and in single precision the way there and back moves every
sample a little; zero offsets then differ from a plain convolution by 4e-6, here by the rounding of sums only. It also
takes about twice as long at 48 channels. Why not ``torchvision.ops.deform_conv2d``: it needs a compiled build that
matches torch, and its gradient is six times slower on a CPU. It agrees with this file to rounding (tests). Only one
offset group is written, because Dynamic Head uses one. There is no second derivative.

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
    y, x = _places(offset, (kernel_h, kernel_w), stride, padding, dilation)
    rows_of, weights = _corners(y, x, mask, height, width)
    table = functional.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
    sampled = functional.embedding_bag(rows_of, table, mode="sum", per_sample_weights=weights)
    mixed = sampled.view(batch * rows * columns, points * channels) @ weight.permute(2, 3, 1, 0).reshape(-1, out)
    if bias is not None:
        mixed = mixed + bias
    return mixed.view(batch, rows, columns, out).permute(0, 3, 1, 2).contiguous()


def _places(offset: Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Where samples are taken, y and x in pixels [B, h, w, K]."""
    batch, _, rows, columns = offset.shape
    moved = offset.view(batch, kernel[0] * kernel[1], 2, rows, columns).permute(2, 0, 3, 4, 1).contiguous()
    tap_y, tap_x, base_y, base_x = (
        torch.arange(count, dtype=offset.dtype, device=offset.device) for count in (*kernel, rows, columns)
    )
    tap_y = (tap_y * dilation - padding).repeat_interleave(kernel[1])
    tap_x = (tap_x * dilation - padding).repeat(kernel[0])
    return moved[0] + ((base_y * stride)[:, None, None] + tap_y), moved[1] + ((base_x * stride)[:, None] + tap_x)


def _corners(y: Tensor, x: Tensor, mask: Tensor | None, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four pixels around every sample, as rows of the padded table, and their weights: two [B h w K, 4].

    Places outside the padded image are moved to its edge, where everything is zero.
    """
    y, x = y.clamp(-1.0, float(height)), x.clamp(-1.0, float(width))
    low_y = y.detach().floor().clamp(max=height - 1.0)
    low_x = x.detach().floor().clamp(max=width - 1.0)
    after_y, after_x = y - low_y, x - low_x
    before_y, before_x = 1.0 - after_y, 1.0 - after_x
    if mask is not None:
        gain = mask.permute(0, 2, 3, 1)
        before_y, after_y = before_y * gain, after_y * gain
    weights = torch.stack([before_y * before_x, before_y * after_x, after_y * before_x, after_y * after_x], dim=-1)
    span = width + 2
    image = torch.arange(len(y), device=y.device)[:, None, None, None] * ((height + 2) * span)
    # A place that is not a number keeps its weight (the result is then not a number) and needs some row.
    corner = image + (low_y.nan_to_num().long() + 1) * span + (low_x.nan_to_num().long() + 1)
    rows_of = corner[..., None] + torch.tensor([0, 1, span, span + 1], device=y.device)
    return rows_of.reshape(-1, 4), weights.reshape(-1, 4)


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

"""Functions of sixteen numbers at once that generalized Born needs: square root, exp(-x) and the inverse of tanh.

Numba calls the mathematical library once per number; a polynomial takes a tenth of that. The ranges are those of the
pair terms: x >= 0 in exp(-x), and |z| <= ``LARGEST_Z`` in atanh(z), which stands for the logarithm of a ratio,

    ln(L / U) = -2 atanh(z),   z = (U - L) / (U + L)

and, unlike the logarithm, loses no digits when L and U are nearly the same (distant atoms).

    exp(-x)  = 2^k p(f),        -x log2(e) = k + f, |f| <= 1/2;   p: Taylor coefficients of 2^f
    atanh(z) = z q(z^2)         q: interpolation at Chebyshev nodes

Relative errors are a few units in the last place (tests); that of exp(-x) grows with x, because x log2(e) is rounded
to so many digits. As in ``simd``, compiled code only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload, register_jitable

from mlsim.deploy.kernel.simd import (
    _INT32,
    LANES,
    Vector,
    _call_llvm,
    _power_of_two,
    _round,
    clamp,
    fill,
    fma,
    intrinsic,
    mul,
)

#: Largest argument of :func:`atanh`.
LARGEST_Z = 0.65


@intrinsic
def sub(typing: Any, a: Any, b: Any) -> Any:
    """``a - b``."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fsub(*arguments)


@intrinsic
def sqrt(typing: Any, a: Any) -> Any:
    """Square root."""
    return a(a), lambda context, builder, signature, arguments: _call_llvm(builder, "llvm.sqrt", list(arguments))


@intrinsic
def absolute(typing: Any, a: Any) -> Any:
    """Absolute value."""
    return a(a), lambda context, builder, signature, arguments: _call_llvm(builder, "llvm.fabs", list(arguments))


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each two; ``b`` where one is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = arguments
        return builder.select(builder.fcmp_ordered(">", one, other), one, other)

    return a(a, b), code


@intrinsic
def below(typing: Any, vector: Any, count: Any) -> Any:
    """One in the first ``count`` lanes and zero in the others, in the type of ``vector``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.VectorType(ir.IntType(64), LANES)
        undefined = ir.Constant(whole, ir.Undefined)
        first = builder.insert_element(undefined, arguments[1], ir.Constant(_INT32, 0))
        limit = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))
        lanes = ir.Constant(whole, list(range(LANES)))
        kind = arguments[0].type
        one, zero = ir.Constant(kind, [1.0] * LANES), ir.Constant(kind, [0.0] * LANES)
        return builder.select(builder.icmp_signed("<", lanes, limit), one, zero)

    return vector(vector, types.int64), code


@intrinsic
def _power_of_two_single(typing: Any, a: Any) -> Any:
    """2**a for whole float32 numbers ``a`` in the normal range, by writing the exponent bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.VectorType(_INT32, LANES)
        exponent = builder.add(builder.fptosi(arguments[0], integer), ir.Constant(integer, [127] * LANES))
        return builder.bitcast(builder.shl(exponent, ir.Constant(integer, [23] * LANES)), arguments[0].type)

    return a(a), code


def exp_minus(vector: Any) -> Any:
    """exp(-x) of a vector of x >= 0 (compiled code only)."""
    raise NotImplementedError("exp_minus works in compiled code only")


def atanh(vector: Any) -> Any:
    """Inverse hyperbolic tangent of a vector, |z| <= ``LARGEST_Z`` (compiled code only)."""
    raise NotImplementedError("atanh works in compiled code only")


def _atanh_coefficients(degree: int) -> tuple[float, ...]:
    """Of q(w) = atanh(sqrt w) / sqrt w, lowest first, by interpolation at Chebyshev nodes on [0, LARGEST_Z^2]."""
    half = LARGEST_Z**2 / 2
    nodes = half * (1 + np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)))
    z = np.sqrt(nodes)
    series = np.polynomial.Chebyshev.fit(nodes, np.arctanh(z) / z, degree, domain=[0, 2 * half])
    return tuple(float(c) for c in series.convert(kind=np.polynomial.Polynomial).coef)


_ATANH_SINGLE, _ATANH_DOUBLE = _atanh_coefficients(8), _atanh_coefficients(18)
#: Taylor coefficients of 2^f, lowest first.
_POWER = tuple(math.log(2.0) ** k / math.factorial(k) for k in range(15))
_LOG2E = 1.0 / math.log(2.0)
_EXP_SINGLE, _EXP_DOUBLE = _POWER[:8], _POWER[:14]


@register_jitable
def _exp_minus_single(vector: Any) -> Any:
    y = mul(clamp(vector, fill(vector, 0.0), fill(vector, 87.0)), fill(vector, -_LOG2E))
    whole = _round(y)
    rest = sub(y, whole)
    series = fill(vector, _EXP_SINGLE[7])
    for k in range(6, -1, -1):
        series = fma(series, rest, fill(vector, _EXP_SINGLE[k]))
    return mul(series, _power_of_two_single(whole))


@register_jitable
def _exp_minus_double(vector: Any) -> Any:
    y = mul(clamp(vector, fill(vector, 0.0), fill(vector, 700.0)), fill(vector, -_LOG2E))
    whole = _round(y)
    rest = sub(y, whole)
    series = fill(vector, _EXP_DOUBLE[13])
    for k in range(12, -1, -1):
        series = fma(series, rest, fill(vector, _EXP_DOUBLE[k]))
    return mul(series, _power_of_two(whole))


@register_jitable
def _atanh_single(vector: Any) -> Any:
    square = mul(vector, vector)
    series = fill(vector, _ATANH_SINGLE[8])
    for k in range(7, -1, -1):
        series = fma(series, square, fill(vector, _ATANH_SINGLE[k]))
    return mul(vector, series)


@register_jitable
def _atanh_double(vector: Any) -> Any:
    square = mul(vector, vector)
    series = fill(vector, _ATANH_DOUBLE[18])
    for k in range(17, -1, -1):
        series = fma(series, square, fill(vector, _ATANH_DOUBLE[k]))
    return mul(vector, series)


@overload(exp_minus)
def _exp_minus_of(vector: Any) -> Any:
    if isinstance(vector, Vector):
        return _exp_minus_single if vector.scalar == types.float32 else _exp_minus_double
    return None


@overload(atanh)
def _atanh_of(vector: Any) -> Any:
    if isinstance(vector, Vector):
        return _atanh_single if vector.scalar == types.float32 else _atanh_double
    return None

"""Sixteen numbers in one register: the vector type that the compiled kernel is written with.

Why. Numba's compiler (LLVM) vectorises simple loops by itself, but it keeps the accumulators of a small matrix product
in memory and, on processors with AVX-512, uses only half of each register. Measured on one core of a Xeon (Sapphire
Rapids), float32, a product of [24, 64] and [64, 64]: plain Numba loops 4.2 us, BLAS 1.31 us, the same loops written
with this type 1.35 us; unlike BLAS they never start threads and give the same bits in every call. The type is a plain
LLVM vector, so a processor with shorter registers gets the same program in two or four pieces.

Nothing here knows what is computed. ``Vector`` is a Numba type that exists in compiled code only; the functions below
can be called from ``@njit`` functions only. Offsets count elements from the start of a flat contiguous array.

================  ======================================================
``load(a, o)``     a[o : o + 16]
``store(a, o, v)`` a[o : o + 16] = v
``spread(a, o)``   a[o] in all lanes
``fill(v, x)``     the number x in all lanes, in v's type
``fma(a, b, c)``   a * b + c, rounded once where the processor can
``total(v)``       sum of the lanes
``tanh(v)``        hyperbolic tangent; NaN stays NaN
================  ======================================================
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_jitable, register_model

#: Numbers per vector: 16 float32 fill one AVX-512 register.
LANES = 16
_INT32 = ir.IntType(32)
#: Untyped, because compiled code does not pass the typing context that these functions are declared with.
intrinsic: Any = extending.intrinsic


class Vector(types.Type):
    """Numba type of ``LANES`` numbers of type ``scalar`` (float32 or float64)."""

    def __init__(self, scalar: types.Float) -> None:
        self.scalar = scalar
        super().__init__(name=f"Vector{LANES}({scalar})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_element(fe_type.scalar), LANES))


def _element(scalar: types.Float) -> ir.Type:
    return ir.FloatType() if scalar == types.float32 else ir.DoubleType()


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _broadcast(builder: Any, value: Any, element: ir.Type) -> Any:
    undefined = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    lanes = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, lanes)


def _call_llvm(builder: Any, name: str, arguments: list[Any]) -> Any:
    vector = arguments[0].type
    suffix = f".v{vector.count}" + ("f32" if vector.element == ir.FloatType() else "f64")
    signature = ir.FunctionType(vector, [vector] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name + suffix), arguments)


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """Sixteen consecutive elements of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = _element(signature.args[0].dtype)
        address = _address(context, builder, signature.args[0], *arguments)
        value = builder.load(builder.bitcast(address, ir.VectorType(element, LANES).as_pointer()))
        value.align = signature.args[0].dtype.bitwidth // 8
        return value

    return Vector(array.dtype)(array, types.intp), code


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write sixteen consecutive elements of a flat array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = _element(signature.args[0].dtype)
        address = _address(context, builder, signature.args[0], *arguments[:2])
        place = builder.bitcast(address, ir.VectorType(element, LANES).as_pointer())
        builder.store(arguments[2], place).align = signature.args[0].dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@intrinsic
def spread(typing: Any, array: Any, offset: Any) -> Any:
    """One element of a flat array in all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *arguments))
        return _broadcast(builder, value, value.type)

    return Vector(array.dtype)(array, types.intp), code


@intrinsic
def fill(typing: Any, vector: Any, number: Any) -> Any:
    """The float64 ``number`` in all lanes of a vector of the type of ``vector``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = _element(signature.args[0].scalar)
        value = arguments[1] if element == ir.DoubleType() else builder.fptrunc(arguments[1], element)
        return _broadcast(builder, value, element)

    return vector(vector, types.float64), code


@intrinsic
def zeros(typing: Any, array: Any) -> Any:
    """Zero in all lanes, in the type of the elements of ``array``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.VectorType(_element(signature.args[0].dtype), LANES), None)

    return Vector(array.dtype)(array), code


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once where the processor can."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call_llvm(builder, "llvm.fmuladd", list(arguments))

    return a(a, b, c), code


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """``a + b``."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def mul(typing: Any, a: Any, b: Any) -> Any:
    """``a * b``."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def div(typing: Any, a: Any, b: Any) -> Any:
    """``a / b``."""
    return a(a, b), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def clamp(typing: Any, a: Any, low: Any, high: Any) -> Any:
    """``a`` held between ``low`` and ``high``; NaN stays NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, least, most = arguments
        value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
        return builder.select(builder.fcmp_ordered(">", value, most), most, value)

    return a(a, low, high), code


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Sum of the lanes, by halves (the same order in every call)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, width = arguments[0], LANES
        while width > 1:
            half = ir.VectorType(_INT32, width // 2)
            low = builder.shuffle_vector(value, value, ir.Constant(half, list(range(width // 2))))
            high = builder.shuffle_vector(value, value, ir.Constant(half, list(range(width // 2, width))))
            value, width = builder.fadd(low, high), width // 2
        return builder.extract_element(value, ir.Constant(_INT32, 0))

    return vector.scalar(vector), code


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """An integer address as a pointer to numbers of the type that the array ``like`` holds."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), code


@intrinsic
def _round(typing: Any, a: Any) -> Any:
    return a(a), lambda context, builder, signature, arguments: _call_llvm(builder, "llvm.rint", list(arguments))


@intrinsic
def _power_of_two(typing: Any, a: Any) -> Any:
    """2**a for whole float64 numbers ``a`` in the normal range, by writing the exponent bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.VectorType(ir.IntType(64), LANES)
        exponent = builder.add(builder.fptosi(arguments[0], integer), ir.Constant(integer, [1023] * LANES))
        return builder.bitcast(builder.shl(exponent, ir.Constant(integer, [52] * LANES)), arguments[0].type)

    return a(a), code


def tanh(vector: Any) -> Any:
    """Hyperbolic tangent of a vector (compiled code only)."""
    raise NotImplementedError("tanh works in compiled code only")


# Rational minimax approximation of Eigen's ``ptanh`` (a few units in the last place of float32 on the whole axis).
_ODD = (
    4.89352455891786e-03,
    6.37261928875436e-04,
    1.48572235717979e-05,
    5.12229709037114e-08,
    -8.60467152213735e-11,
    2.00018790482477e-13,
    -2.76076847742355e-16,
)
_EVEN = (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)
_SATURATION = 7.90531110763549805
#: Taylor coefficients 1/k! of exp, highest first: exact to float64 rounding for |y| <= ln(2)/2.
_EXP = tuple(1.0 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1))
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10


@register_jitable
def _tanh_single(vector: Any) -> Any:
    x = clamp(vector, fill(vector, -_SATURATION), fill(vector, _SATURATION))
    square = mul(x, x)
    odd = fill(vector, _ODD[6])
    for k in range(5, -1, -1):
        odd = fma(odd, square, fill(vector, _ODD[k]))
    even = fill(vector, _EVEN[3])
    for k in range(2, -1, -1):
        even = fma(even, square, fill(vector, _EVEN[k]))
    return div(mul(x, odd), even)


@register_jitable
def _tanh_double(vector: Any) -> Any:
    y = mul(clamp(vector, fill(vector, -20.0), fill(vector, 20.0)), fill(vector, 2.0))
    whole = _round(mul(y, fill(vector, _LOG2E)))
    rest = fma(whole, fill(vector, -_LN2_LOW), fma(whole, fill(vector, -_LN2_HIGH), y))
    series = fill(vector, _EXP[0])
    for k in range(1, 14):
        series = fma(series, rest, fill(vector, _EXP[k]))
    one = fill(vector, 1.0)
    exponential = mul(series, _power_of_two(whole))
    return div(add(exponential, fill(vector, -1.0)), add(exponential, one))


@overload(tanh)
def _tanh_of(vector: Any) -> Any:
    if isinstance(vector, Vector):
        return _tanh_single if vector.scalar == types.float32 else _tanh_double
    return None

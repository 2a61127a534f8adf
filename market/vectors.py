"""Sixteen agents at once: a vector of numbers as a type of compiled code.

A loop over agents is fast if the compiler makes vector instructions of it, and whether it does depends on what it can prove
about the arrays; where it cannot, it checks at run time, at every loop.  So the kernels say what they mean: they load
sixteen lanes, reckon with them as with one number and store them.  Values stay in registers, nothing is proved, and every
operation is the one that is written, in the order in which it is written: the same digits on any machine, on which
sixteen lanes may be one register or eight.

``load(a, row)`` and ``store(a, row, v)`` take arrays (rows, 16), contiguous; there is no check of the row.  ``+ - * /``
take vectors and numbers, which are rounded to the vector's precision first.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model
from numpy.typing import NDArray

__all__ = [
    "LANES",
    "choose",
    "greatest",
    "largest",
    "load",
    "nothing",
    "rows_like",
    "same",
    "smallest",
    "store",
    "sum_up",
    "widen",
]

LANES = 16
intrinsic: Any = extending.intrinsic
_INDEX = ir.IntType(64)


class Vector(types.Type):
    """The type of a vector of 16 numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector16({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector is LLVM's vector."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), LANES))  # type: ignore[no-untyped-call]


def _lanes(context: Any, builder: Any, value: Any, kind: Any, dtype: Any) -> Any:
    """Return a vector, or a number spread over one."""
    if isinstance(kind, Vector):
        return value
    number = context.cast(builder, value, kind, dtype)
    empty = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _common(*kinds: Any) -> Any:
    """Return the precision of the vectors among these types, or None."""
    found = {kind.dtype for kind in kinds if isinstance(kind, Vector)}
    known = all(isinstance(kind, (Vector, types.Number, types.Literal)) for kind in kinds)
    return found.pop() if known and len(found) == 1 else None


def _operator(symbol: Any, instruction: str) -> None:
    """Teach the compiler an operator."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            dtype = _common(*args) if len(args) == 2 and not kws else None
            return None if dtype is None else signature(Vector(dtype), *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        left, right = (_lanes(context, builder, a, kind, dtype) for a, kind in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(left, right)

    for one, other in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, one, other)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"), (operator.isub, "fsub"), (operator.imul, "fmul"),
):  # fmt: skip
    _operator(_symbol, _instruction)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(row, ir.Constant(_INDEX, LANES))])
    number = context.get_value_type(array_type.dtype)
    return builder.bitcast(first, ir.VectorType(number, LANES).as_pointer())


def _align(array_type: Any) -> int:
    return int(array_type.dtype.bitwidth) // 8


@intrinsic
def load(_: Any, array: Any, row: Any) -> Any:
    """Return a row of an array as a vector."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], sig.args[1], types.int64)
        found = builder.load(_pointer(context, builder, sig.args[0], args[0], at))
        found.align = _align(sig.args[0])
        return found

    return Vector(array.dtype)(array, row), generate


@intrinsic
def store(_: Any, array: Any, row: Any, value: Any) -> Any:
    """Write a vector into a row of an array, rounded to what the array holds."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], sig.args[1], types.int64)
        number, vector = context.get_value_type(sig.args[0].dtype), args[2]
        if sig.args[2].dtype != sig.args[0].dtype:
            wide = sig.args[0].dtype.bitwidth > sig.args[2].dtype.bitwidth
            vector = (builder.fpext if wide else builder.fptrunc)(vector, ir.VectorType(number, LANES))
        builder.store(vector, _pointer(context, builder, sig.args[0], args[0], at), align=_align(sig.args[0]))
        return context.get_dummy_value()

    return types.void(array, row, value), generate


@intrinsic
def nothing(_: Any, array: Any) -> Any:
    """Return a vector of zeros of an array's precision."""

    def generate(context: Any, _builder: Any, sig: Any, _args: Any) -> Any:
        return ir.Constant(context.get_value_type(sig.return_type), None)

    return Vector(array.dtype)(array), generate


@intrinsic
def widen(_: Any, value: Any) -> Any:
    """Return a vector in double precision."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[0] == sig.return_type:
            return args[0]
        return builder.fpext(args[0], context.get_value_type(sig.return_type))

    return Vector(types.float64)(value), generate


def _selecting(symbol: str) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        left, right = (_lanes(context, builder, a, kind, dtype) for a, kind in zip(args, sig.args, strict=True))
        return builder.select(builder.fcmp_ordered(symbol, left, right), left, right)

    return generate


@intrinsic
def smallest(_: Any, one: Any, other: Any) -> Any:
    """Return the smaller of two, lane by lane."""
    return Vector(_common(one, other))(one, other), _selecting("<")


@intrinsic
def greatest(_: Any, one: Any, other: Any) -> Any:
    """Return the greater of two, lane by lane."""
    return Vector(_common(one, other))(one, other), _selecting(">")


@intrinsic
def choose(_: Any, one: Any, other: Any, greater: Any, otherwise: Any) -> Any:
    """Return ``greater`` in the lanes where one > other, ``otherwise`` in the rest."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        vectors = [_lanes(context, builder, a, kind, dtype) for a, kind in zip(args, sig.args, strict=True)]
        return builder.select(builder.fcmp_ordered(">", vectors[0], vectors[1]), vectors[2], vectors[3])

    return Vector(_common(one, other, greater, otherwise))(one, other, greater, otherwise), generate


def _folded(combine: Any) -> Any:
    """Halve the vector until one number is left: always the same order."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        vector, size = args[0], LANES
        empty = ir.Constant(vector.type, ir.Undefined)
        while size > 1:
            size //= 2
            swapped = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [(i + size) % LANES for i in range(LANES)])
            vector = combine(builder, vector, builder.shuffle_vector(vector, empty, swapped))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return generate


@intrinsic
def sum_up(_: Any, value: Any) -> Any:
    """Return the sum of the lanes."""
    return value.dtype(value), _folded(lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def largest(_: Any, value: Any) -> Any:
    """Return the largest lane."""
    return value.dtype(value), _folded(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def same(_: Any, array: Any, row: Any, other: Any) -> Any:
    """Return whether two rows of an array hold the same numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = (context.cast(builder, at, kind, types.int64) for at, kind in zip(args[1:], sig.args[1:], strict=True))
        one, two = (builder.load(_pointer(context, builder, sig.args[0], args[0], at)) for at in rows)
        one.align = two.align = _align(sig.args[0])
        equal = builder.fcmp_ordered("==", one, two)
        bits = builder.bitcast(equal, ir.IntType(LANES))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(LANES), (1 << LANES) - 1))

    return types.boolean(array, row, other), generate


def rows_like(rows: int, dtype: Any) -> NDArray[Any]:
    """Return zeros of shape (rows, 16) that begin at a border of a cache line, so that no load touches two."""
    size = np.dtype(dtype).itemsize
    room = np.zeros(rows * LANES + 64 // size, dtype)
    skip = (-room.ctypes.data % 64) // size
    return room[skip : skip + rows * LANES].reshape(rows, LANES)

"""Eight operating points at once: a vector of numbers as a type of compiled code.

The power flow does the same with every operating point, so the kernels do it with eight of them in one go: they load
eight lanes, reckon with them as with one number and store them.  Every operation is the one that is written, in the order
in which it is written, and no lane sees another: an operating point has the same digits alone and among a million.

``a * b + c`` may be rounded once (:func:`fma`) or twice, and a compiler's choice would be seen in the digits; so it is
made here.  (A processor without that instruction, older than 2013, calls a function for it: the same digits, slowly.)

There are two kinds of arrays.  A work array has a row of eight numbers for each node: ``load(a, row)``,
``store(a, row, v)``.  A table has a row for each node and a column for each operating point: ``fetch(a, row, column)``,
``put(a, row, column, v)``; one of complex numbers is given as its view of floats, (rows, 2 S).  ``many(a, k)`` is a number
of an array in all lanes.  Arrays are contiguous doubles, and no index is checked.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from network.kernel_shapes import LANES

__all__ = [
    "EXACT",
    "EXACT_PART",
    "LANES",
    "choose",
    "fetch",
    "fetch_imaginary",
    "fetch_real",
    "fma",
    "fnma",
    "larger",
    "load",
    "many",
    "nothing",
    "put",
    "put_complex",
    "root",
    "store",
    "sum_up",
]

EXACT: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}
"""How the kernels are compiled: kept on disk, without fast mathematics, so that a first run and the next have the same digits."""
EXACT_PART: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""A part of a kernel, called by compiled code alone."""

intrinsic: Any = extending.intrinsic
_INDEX, _DOUBLE = ir.IntType(64), ir.DoubleType()
_EIGHT, _SIXTEEN = ir.VectorType(_DOUBLE, LANES), ir.VectorType(_DOUBLE, 2 * LANES)


class Lanes(types.Type):
    """The type of eight doubles."""

    def __init__(self) -> None:
        super().__init__(name="Lanes8(float64)")


LANES_TYPE = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """Eight doubles are LLVM's vector."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _EIGHT)  # type: ignore[no-untyped-call]


def _shuffle(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(one, other, mask)


def _spread(builder: Any, number: Any) -> Any:
    empty = ir.Constant(_EIGHT, ir.Undefined)
    return _shuffle(builder, builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0)), empty, [0] * LANES)


def _lanes(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    """Return eight lanes, or a number in all of them."""
    return value if isinstance(kind, Lanes) else _spread(builder, context.cast(builder, value, kind, types.float64))


def _operator(symbol: Any, instruction: str) -> None:
    """Teach the compiler an operator."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            known = len(args) == 2 and not kws and all(isinstance(a, (Lanes, types.Number)) for a in args)
            return signature(LANES_TYPE, *args) if known and any(isinstance(a, Lanes) for a in args) else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (_lanes(context, builder, a, kind) for a, kind in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(left, right)

    for one, other in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(symbol, one, other)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _operator(_symbol, _instruction)


def _whole(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    return context.cast(builder, value, kind, types.int64)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, array)


def _row(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return where a row of a work array begins."""
    at = builder.mul(_whole(context, builder, args[1], sig.args[1]), ir.Constant(_INDEX, LANES))
    return builder.gep(_data(context, builder, sig.args[0], args[0]).data, [at])


def _cell(context: Any, builder: Any, sig: Any, args: Any, width: int) -> Any:
    """Return where the eight columns of a table from one on begin, ``width`` numbers a column."""
    table = _data(context, builder, sig.args[0], args[0])
    long = cgutils.unpack_tuple(builder, table.shape)[1]
    row, column = (_whole(context, builder, args[k], sig.args[k]) for k in (1, 2))
    at = builder.add(builder.mul(row, long), builder.mul(column, ir.Constant(_INDEX, width)))
    return builder.gep(table.data, [at])


def _read(builder: Any, place: Any, kind: Any = _EIGHT) -> Any:
    found = builder.load(builder.bitcast(place, kind.as_pointer()))
    found.align = 8
    return found


def _write(builder: Any, place: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=8)


@intrinsic
def load(_: Any, work: Any, row: Any) -> Any:
    """Return a row of a work array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _read(builder, _row(context, builder, sig, args))

    return LANES_TYPE(work, row), generate


@intrinsic
def store(_: Any, work: Any, row: Any, value: Any) -> Any:
    """Write a row of a work array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _write(builder, _row(context, builder, sig, args), args[2])
        return context.get_dummy_value()

    return types.void(work, row, value), generate


@intrinsic
def fetch(_: Any, table: Any, row: Any, column: Any) -> Any:
    """Return eight columns of a row of a table."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _read(builder, _cell(context, builder, sig, args, 1))

    return LANES_TYPE(table, row, column), generate


@intrinsic
def put(_: Any, table: Any, row: Any, column: Any, value: Any) -> Any:
    """Write eight columns of a row of a table."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _write(builder, _cell(context, builder, sig, args, 1), args[3])
        return context.get_dummy_value()

    return types.void(table, row, column, value), generate


def _half(first: int) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = _read(builder, _cell(context, builder, sig, args, 2), _SIXTEEN)
        return _shuffle(builder, both, ir.Constant(_SIXTEEN, ir.Undefined), list(range(first, 2 * LANES, 2)))

    return generate


@intrinsic
def fetch_real(_: Any, table: Any, row: Any, column: Any) -> Any:
    """Return the real parts of eight columns of a table of complex numbers."""
    return LANES_TYPE(table, row, column), _half(0)


@intrinsic
def fetch_imaginary(_: Any, table: Any, row: Any, column: Any) -> Any:
    """Return the imaginary parts of eight columns of a table of complex numbers."""
    return LANES_TYPE(table, row, column), _half(1)


@intrinsic
def put_complex(_: Any, table: Any, row: Any, column: Any, real: Any, imaginary: Any) -> Any:
    """Write eight columns of a row of a table of complex numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [k + LANES * part for k in range(LANES) for part in (0, 1)]
        _write(builder, _cell(context, builder, sig, args, 2), _shuffle(builder, args[3], args[4], places))
        return context.get_dummy_value()

    return types.void(table, row, column, real, imaginary), generate


@intrinsic
def many(_: Any, array: Any, place: Any) -> Any:
    """Return a number of an array in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = _whole(context, builder, args[1], sig.args[1])
        return _spread(builder, builder.load(builder.gep(_data(context, builder, sig.args[0], args[0]).data, [at])))

    return LANES_TYPE(array, place), generate


@intrinsic
def nothing(_: Any) -> Any:
    """Return zeros."""

    def generate(_context: Any, _builder: Any, _sig: Any, _args: Any) -> Any:
        return ir.Constant(_EIGHT, None)

    return LANES_TYPE(), generate


def _known(builder: Any, name: str, arguments: int) -> Any:
    """Return a function that LLVM knows."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(_EIGHT, [_EIGHT] * arguments), name)


def _fused(negative: bool) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one, other, more = (_lanes(context, builder, a, kind) for a, kind in zip(args, sig.args, strict=True))
        fused = _known(builder, "llvm.fma.v8f64", 3)
        return builder.call(fused, [builder.fneg(one) if negative else one, other, more])

    return generate


@intrinsic
def fma(_: Any, one: Any, other: Any, more: Any) -> Any:
    """Return one · other + more, rounded once."""
    return LANES_TYPE(one, other, more), _fused(negative=False)


@intrinsic
def fnma(_: Any, one: Any, other: Any, more: Any) -> Any:
    """Return more − one · other, rounded once."""
    return LANES_TYPE(one, other, more), _fused(negative=True)


@intrinsic
def root(_: Any, value: Any) -> Any:
    """Return the square root."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.call(_known(builder, "llvm.sqrt.v8f64", 1), args)

    return LANES_TYPE(value), generate


@intrinsic
def larger(_: Any, one: Any, other: Any) -> Any:
    """Return the larger of two; the second where one of them is NaN."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return LANES_TYPE(one, other), generate


@intrinsic
def choose(_: Any, one: Any, other: Any, greater: Any, otherwise: Any) -> Any:
    """Return ``greater`` in the lanes where one > other, ``otherwise`` in the rest (where one of them is NaN, too)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [_lanes(context, builder, a, kind) for a, kind in zip(args, sig.args, strict=True)]
        return builder.select(builder.fcmp_ordered(">", vectors[0], vectors[1]), vectors[2], vectors[3])

    return LANES_TYPE(one, other, greater, otherwise), generate


@intrinsic
def sum_up(_: Any, value: Any) -> Any:
    """Return the sum of the lanes."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        vector, size = args[0], LANES
        while size > 1:
            size //= 2
            swapped = [(k + size) % LANES for k in range(LANES)]
            vector = builder.fadd(vector, _shuffle(builder, vector, ir.Constant(_EIGHT, ir.Undefined), swapped))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float64(value), generate

"""Functions that numba compiles at the first call, and what they share; the machine code is cached for the next run."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Decorator: compile ``function`` with numba; it releases the GIL, and its code is cached where possible."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast(Function, numba.njit(nogil=True)(function))


@compiled
def mix64(bits: Any) -> Any:
    """Return 64 mixed bits of a uint64 (the finalizer of splitmix64, Steele et al. 2014), a uint64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _prefetch(_: Any, array: Any, row: Any) -> Any:
    """In compiled functions: start loading ``array[row]``, which is needed soon, into the CPU cache.

    ``row`` is an int64 and is not bounds-checked. Emits the processor's prefetch instruction (``llvm.prefetch``).
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        of = context.make_array(signature.args[0])(context, builder, values[0])
        integer, flag = ir.IntType(64), ir.IntType(32)
        address = builder.add(
            builder.ptrtoint(of.data, integer), builder.mul(values[1], unpack_tuple(builder, of.strides)[0])
        )
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # For writing, all cache levels, data cache: https://llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic
        builder.call(instruction, [builder.inttoptr(address, pointer), flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return numba.types.void(array, row), emit


prefetch: Any = intrinsic(_prefetch)

"""A strict test device: it stands in for CuPy where there is no GPU.

``StrictArray`` keeps a NumPy array to itself and refuses what CuPy's array refuses: implicit conversion to NumPy, a
NumPy array beside it in an operator or a function, options and dtypes that CuPy's functions do not have. ``strict`` is
the module that goes with it; it offers only names that CuPy 13 and 14 both have. What CuPy allows but waits for
(``float``, ``bool``, ``.get()``, a boolean mask as an index) is allowed here too, and counted in ``StrictArray.reads``.

In some places it is stricter than CuPy, so that a test notices what a GPU would do silently:

- an index out of range, which CuPy wraps around, and an index that occurs twice in an assignment, where CuPy keeps any
  of the values, are errors (``add.at`` adds them all up);
- a strided view that reaches beyond its memory is an error;
- new memory (``empty``) is full of NaN, or of the largest integer;
- NumPy's functions refuse it, where CuPy's array would take them over; so does indexing by a NumPy array, which CuPy
  would copy to the GPU each time.

Importing this file registers the device with ``minicv.backend`` under the name "strict".
"""
from __future__ import annotations

import collections
import inspect
import operator
import sys
import types

import numpy as np

from minicv import backend


def refuse(what: str) -> TypeError:
    return TypeError(f"strict device: {what}")


def unwrap(value, where: str):
    """The NumPy array behind a StrictArray, also in lists, tuples and slices; TypeError for one that lies open."""
    if isinstance(value, StrictArray):
        return value._array
    if isinstance(value, np.ndarray):
        raise refuse(f"{where} got a NumPy array of shape {value.shape}; move it over with xp.asarray")
    if isinstance(value, list | tuple):
        return type(value)([unwrap(v, where) for v in value])
    if isinstance(value, slice) and any(isinstance(v, StrictArray) for v in (value.start, value.stop, value.step)):
        raise refuse(f"{where} got an array as the end of a slice; CuPy has no array.__index__")
    return value


def wrap(value):
    """NumPy's result as the device's. Scalars too become arrays, of no dimensions, as CuPy's do."""
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(np.asarray(value))
    if isinstance(value, list):
        return [wrap(v) for v in value]
    return tuple(map(wrap, value)) if isinstance(value, tuple) else value


class StrictArray:
    """An array on the strict device; made by ``strict.asarray(numpy_array)``, looked at with ``.get()``."""

    reads = collections.Counter()  # how often the program waited for a value, {"float(array) at conv.py:12": 1}
    __array_ufunc__ = None  # np.add(a, strict) is a TypeError, and numpy_array * strict comes to __rmul__
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, array: np.ndarray):
        if array.dtype.kind not in "biufc" or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
            raise refuse(f"CuPy has no {array.dtype}")
        self._array = array

    def __array__(self, *args, **kwargs):
        raise refuse("implicit conversion to a NumPy array; use .get()")

    def __array_function__(self, function, types, args, kwargs):
        raise refuse(f"np.{function.__name__} got its array; call xp.{function.__name__}")

    @classmethod
    def note_read(cls, what: str) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__:
            frame = frame.f_back
        cls.reads[f"{what} at {frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"] += 1

    # What is known without waiting
    dtype = property(lambda self: self._array.dtype)
    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    strides = property(lambda self: self._array.strides)
    T = property(lambda self: StrictArray(self._array.T))

    @property
    def flags(self):
        return types.SimpleNamespace(**{name: getattr(self._array.flags, name)
                                        for name in ("c_contiguous", "f_contiguous", "owndata")})

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"strict {self._array!r}"  # for the messages of failing tests, so it is not counted

    # What waits for the device
    def get(self) -> np.ndarray:
        """A copy as a NumPy array, C-contiguous as CuPy's."""
        self.note_read(".get()")
        return self._array.copy()

    def item(self):
        self.note_read(".item()")
        return self._array.item()

    def tolist(self):
        self.note_read(".tolist()")
        return self._array.tolist()

    def __float__(self) -> float:
        self.note_read("float(array)")
        return float(self._array)

    def __int__(self) -> int:
        self.note_read("int(array)")
        return int(self._array)

    def __bool__(self) -> bool:
        self.note_read("bool(array)")
        return bool(self._array)

    # Indexing
    def __getitem__(self, index):
        raw = unwrap(index, "array[index]")
        if any(a.dtype == bool for a in index_arrays(raw)):
            self.note_read("array[mask]")  # of how many elements?
        return wrap(self._array[raw])

    def __setitem__(self, index, value):
        raw, new = unwrap(index, "array[index]"), unwrap(value, "array[index] = values")
        if isinstance(new, list | tuple):
            raise refuse("array[index] = values got a Python list; move it over with xp.asarray")
        arrays = index_arrays(raw)
        if arrays and isinstance(new, np.ndarray) and new.ndim:
            if any(a.dtype == bool for a in arrays):
                self.note_read("array[mask] = array")
            times = np.zeros(self.shape, np.int64)
            np.add.at(times, raw, 1)
            if times.max(initial=0) > 1:
                raise IndexError("strict device: an index occurs twice in array[index] = values, and CuPy keeps any of "
                                 "the values; use backend.add_at to add them up")
        self._array[raw] = new


def index_arrays(raw) -> list[np.ndarray]:
    """The integer and boolean arrays in an index."""
    return [np.asarray(p) for p in (raw if isinstance(raw, tuple) else (raw,)) if isinstance(p, np.ndarray | list)]


# ---------------------------------------------------------------------------------------------------------
# Operators: the other operand is a StrictArray, a Python number or a NumPy scalar
# ---------------------------------------------------------------------------------------------------------
def operand(array: np.ndarray, value, name: str):
    if isinstance(value, list | tuple):
        raise refuse(f"{name} got a Python {type(value).__name__}; move it over with xp.asarray")
    float_and_int = array.dtype.kind == "f" and type(value) is int
    if float_and_int and np.result_type(array, np.min_scalar_type(value)) != array.dtype:
        raise refuse(f"CuPy 13 widens {array.dtype} beside the int {value}; make it a float")
    return unwrap(value, name)


def add_operator(name: str, f, kinds: tuple[str, ...]) -> None:
    def forward(self, other):
        return wrap(f(self._array, operand(self._array, other, name)))

    def reflected(self, other):
        return wrap(f(operand(self._array, other, name), self._array))

    def in_place(self, other):
        f(self._array, operand(self._array, other, name), out=self._array)
        return self

    def unary(self):
        return wrap(f(self._array))

    for kind in kinds:
        method = {"": forward, "r": reflected, "i": in_place, "unary": unary}[kind]
        setattr(StrictArray, f"__{'' if kind == 'unary' else kind}{name}__", method)


for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
                      "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "lshift": np.left_shift,
                      "rshift": np.right_shift, "and": np.bitwise_and, "or": np.bitwise_or,
                      "xor": np.bitwise_xor}.items():
    add_operator(_name, _ufunc, ("", "r", "i"))
add_operator("matmul", np.matmul, ("", "r"))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    add_operator(_name, getattr(operator, _name), ("",))
for _name in ("neg", "pos", "abs", "invert"):
    add_operator(_name, getattr(operator, _name), ("unary",))


# ---------------------------------------------------------------------------------------------------------
# What CuPy's functions and methods take: "name keyword keyword ...". Reductions know neither `initial` nor `where`
# (cupy/cupy#6935), ufuncs no `where`, `astype` no `casting`.
# ---------------------------------------------------------------------------------------------------------
REDUCTIONS = """
all axis out keepdims | any axis out keepdims | max axis out keepdims | min axis out keepdims
argmax axis out keepdims | argmin axis out keepdims | sum axis dtype out keepdims | prod axis dtype out keepdims
mean axis dtype out keepdims | var axis dtype out ddof keepdims | std axis dtype out ddof keepdims
cumsum axis dtype out | cumprod axis dtype out | trace offset axis1 axis2
"""
SHAPED = """
argsort axis | argpartition axis | copy order | diagonal offset axis1 axis2 | dot out | nonzero
ravel order | repeat axis | reshape order | round decimals out | squeeze axis | swapaxes | take axis out | transpose
"""
METHODS = REDUCTIONS + "|" + SHAPED + "| astype dtype order copy | clip min max out | fill | flatten | view dtype"
FUNCTIONS = REDUCTIONS + "|" + SHAPED + """
| arange stop step dtype | eye M k dtype | identity dtype | full dtype | full_like dtype shape | indices dtype
ones dtype | clip a_min a_max out
linspace num endpoint dtype axis | meshgrid indexing sparse | ones_like dtype shape | tri M k dtype | tril k | triu k
zeros dtype | zeros_like dtype shape | ascontiguousarray dtype | asfortranarray dtype | diag k
array_split axis | atleast_1d | atleast_2d | atleast_3d | broadcast_arrays | broadcast_to shape | column_stack
concatenate axis out | copyto where | expand_dims axis | flip axis | fliplr | flipud | hstack | moveaxis | vstack
pad mode constant_values | roll axis | rollaxis start | rot90 k axes | split axis | stack axis out | tile
amax axis out keepdims | amin axis out keepdims | count_nonzero axis | diff n axis | median axis keepdims
nansum axis dtype out keepdims | nanmax axis out keepdims | nanmin axis out keepdims
allclose rtol atol | around decimals out | array_equal | bincount weights minlength | extract | flatnonzero | argwhere
isclose rtol atol | ix_ | nan_to_num copy nan posinf neginf | partition axis | ravel_multi_index dims
searchsorted side | sort axis | take_along_axis axis | unique return_index return_inverse return_counts axis
unravel_index dims | where x y | einsum optimize | inner | kron | outer out | tensordot axes | vdot
"""
UFUNCS = """
absolute | abs | add | arccos | arccosh | arcsin | arcsinh | arctan | arctan2 | arctanh | bitwise_and | bitwise_or
bitwise_xor | ceil | copysign | cos | cosh | deg2rad | degrees | divide | equal | exp | exp2 | expm1 | floor
floor_divide | fmax | fmin | fmod | frexp | greater | greater_equal | hypot | invert | isfinite | isinf | isnan
ldexp | left_shift | less | less_equal | log | log10 | log1p | log2 | logaddexp | logaddexp2 | logical_and
logical_not | logical_or | logical_xor | matmul | maximum | minimum | mod | modf | multiply | negative | nextafter
not_equal | power | rad2deg | radians | reciprocal | remainder | right_shift | rint | sign | signbit | sin | sinh
sqrt | square | subtract | tan | tanh | true_divide | trunc
"""
UFUNC_METHODS = {"at": "add subtract maximum minimum bitwise_and bitwise_or bitwise_xor", "reduce": "add multiply",
                 "accumulate": "add multiply", "outer": UFUNCS.replace("|", " ").replace("matmul", "")}
AT_DTYPES = {  # for which CuPy has an atomic operation
    "add": "float16 float32 float64 int32 uint32 uint64", "subtract": "int32 uint32",
    **dict.fromkeys(("maximum", "minimum"), "float32 float64 int32 int64 uint32 uint64"),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), "int32 int64 uint32 uint64")}
LINALG = """
cholesky | det | eigh | eigvalsh | inv | lstsq rcond | matrix_power | norm ord axis keepdims | pinv rcond | qr mode
slogdet | solve | svd full_matrices compute_uv
"""
SAME_AS_NUMPY = """
bool_ int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 dtype finfo
iinfo issubdtype promote_types integer floating generic number pi e inf nan newaxis
"""
WAIT = ("nonzero", "flatnonzero", "argwhere", "extract", "unique", "bincount")  # the result's size depends on values


def parse(table: str) -> dict[str, list[str]]:
    """"name keyword keyword | name" as {name: keywords}; a line ends an entry too."""
    entries = [entry.split() for line in table.splitlines() for entry in line.split("|")]
    return {entry[0]: entry[1:] for entry in entries if entry}


TAKE_LISTS = """
full indices ones linspace zeros empty ix_ ravel_multi_index concatenate column_stack hstack stack vstack reshape
transpose
"""  # as the first argument: of arrays, or of numbers that are no array


def positional(f, keywords: list[str]) -> int | None:
    """How many arguments may go without a name: NumPy's required ones, and those CuPy has too. None: any number."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except ValueError:  # of a function in C
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.default is p.empty or p.name in keywords for p in parameters
               if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def check_call(name: str, most: int | None, args: tuple, kwargs: dict) -> None:
    """Refuse what NumPy's function takes and CuPy's does not: surplus arguments, and lists where arrays belong."""
    if most is not None and len(args) > most:
        raise refuse(f"CuPy's {name} takes {most} arguments without a name, not {len(args)}")
    if isinstance(kwargs.get("axis"), list):
        raise refuse(f"CuPy's {name} takes a tuple as axis, not a list")
    arrays = args if name == "where" else args[:name.rpartition(".")[2] not in TAKE_LISTS.split()]
    if any(isinstance(v, list) for v in arrays):
        raise refuse(f"CuPy's {name} takes arrays and numbers, not a Python list")


def on_device(name: str, f, keywords: list[str]):
    """NumPy's function f as one of the device, with CuPy's keywords."""
    most = None if isinstance(f, np.ufunc) else positional(f, keywords)

    def call(*args, **kwargs):
        check_call(name, most, args, kwargs)
        if not set(kwargs) <= set(keywords):
            raise refuse(f"CuPy's {name} takes the keywords {keywords}, not {sorted(set(kwargs) - set(keywords))}")
        if isinstance(f, np.ufunc) and any(isinstance(v, list | tuple) for v in args):
            raise refuse(f"CuPy's {name} takes arrays and numbers, not a Python list")
        if name in ("arange", "repeat") and any(isinstance(v, StrictArray) for v in args[name == "repeat":]):
            raise refuse(f"CuPy's {name} takes numbers that the program knows, not an array")
        if name in WAIT or (name == "where" and len(args) == 1):
            StrictArray.note_read(f"xp.{name}")
        result = f(*[unwrap(v, f"xp.{name}") for v in args],
                   **{key: unwrap(v, f"xp.{name}({key})") for key, v in kwargs.items()})
        return wrap(result) if kwargs.get("out") is None else kwargs["out"]
    return call


class StrictUfunc:
    """One of CuPy's ufuncs: ``xp.add(a, b)``, ``xp.add.at(a, index, b)``."""

    def __init__(self, name: str):
        self.name, self.f = name, getattr(np, name)
        self.call = on_device(name, self.f, ["out", "dtype", "casting"])

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)

    def __getattr__(self, method: str):
        if self.name not in UFUNC_METHODS.get(method, "").split():
            raise AttributeError(f"strict device: CuPy has no {self.name}.{method}")
        if method == "at":
            return self.scatter
        return on_device(f"{self.name}.{method}", getattr(self.f, method), ["axis", "dtype", "out", "keepdims"])

    def scatter(self, a, indices, b):
        where = f"xp.{self.name}.at"
        if not isinstance(a, StrictArray):
            raise refuse(f"{where} got a {type(a).__name__}")
        if a.dtype.name not in AT_DTYPES[self.name].split():
            raise refuse(f"CuPy's {self.name}.at works on {AT_DTYPES[self.name]}, not on {a.dtype}")
        self.f.at(a._array, unwrap(indices, where), operand(a._array, b, where))


def asarray(value, dtype=None, order="K"):
    """The explicit way onto the device, from a NumPy array, a number or a list of numbers."""
    if isinstance(value, StrictArray):
        return StrictArray(np.asarray(value._array, dtype, order=order))
    return StrictArray(np.array(value, dtype, order=order))


def array(value, dtype=None, copy=True, order="K"):
    return StrictArray(np.array(value._array if isinstance(value, StrictArray) else value, dtype, order=order))


def asnumpy(value):
    return value.get() if isinstance(value, StrictArray) else np.asarray(value)


def poisoned(a: np.ndarray) -> StrictArray:
    a[...] = np.nan if a.dtype.kind in "fc" else True if a.dtype == bool else np.iinfo(a.dtype).max
    return StrictArray(a)


def empty(shape, dtype=float, order="C"):
    return poisoned(np.empty(unwrap(shape, "xp.empty"), dtype, order))


def empty_like(prototype, dtype=None, order="K", shape=None):
    return poisoned(np.empty_like(unwrap(prototype, "xp.empty_like"), dtype, order, shape=shape))


def as_strided(x, shape=None, strides=None):
    a = owner = unwrap(x, "xp.lib.stride_tricks.as_strided")
    view = np.lib.stride_tricks.as_strided(a, shape, strides)
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    (low, high), (first, last) = np.lib.array_utils.byte_bounds(view), np.lib.array_utils.byte_bounds(owner)
    if view.size and (low < first or high > last):
        raise IndexError(f"strict device: a view of shape {view.shape} and strides {view.strides} reaches "
                         f"{max(first - low, 0)} bytes before and {max(high - last, 0)} after the memory of its array")
    return StrictArray(view)


def result_type(*values):
    return np.result_type(*(v.dtype if isinstance(v, StrictArray) else v for v in values))


class StrictModule(types.ModuleType):
    """``xp`` on the strict device: what CuPy has, nothing else."""

    def __init__(self, name: str, members: dict):
        super().__init__(name)
        vars(self).update(members)

    def __getattr__(self, name: str):
        raise AttributeError(f"strict device: CuPy 13 and 14 have no {self.__name__.replace('strict', 'cupy')}.{name}, "
                             "or tests/strict_device.py does not list it")


for _name, _keywords in parse(METHODS).items():
    setattr(StrictArray, _name, on_device(_name, getattr(np.ndarray, _name), _keywords))

strict = StrictModule("strict", {
    **{name: on_device(name, getattr(np, name), keywords) for name, keywords in parse(FUNCTIONS).items()},
    **{name: StrictUfunc(name) for name in parse(UFUNCS)},
    **{name: getattr(np, name) for name in SAME_AS_NUMPY.split()},
    **{f.__name__: f for f in (asarray, array, asnumpy, empty, empty_like, result_type)},
    "ndarray": StrictArray,
    "linalg": StrictModule("strict.linalg", {name: on_device(f"linalg.{name}", getattr(np.linalg, name), keywords)
                                             for name, keywords in parse(LINALG).items()}),
    "lib": StrictModule("strict.lib", {"stride_tricks": StrictModule("strict.lib.stride_tricks",
                                                                     {"as_strided": as_strided})}),
})
backend.register_device("strict", strict, StrictArray)

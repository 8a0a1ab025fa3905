"""Arrays of a PyTorch checkpoint, read without PyTorch and without running anything that the file says.

`torch.save` has written two formats. The legacy one is a row of pickles (magic number, protocol, system, the object,
the keys of its storages) with the storages' raw bytes behind them; since PyTorch 1.6 it is a zip with one pickle and
one entry for each storage. A pickle is a program: this reader accepts the operations and the four kinds of global
names that tensors need, each replaced by plain data of our own, and refuses everything else. Nothing is allocated
before its size has been held against what the file has. NumPy only.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdi_tf import npz
from rdi_tf.errors import CheckpointError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
BROKEN_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)

# What torch.save writes for a dictionary of tensors and plain values. No operation that calls more than REDUCE does.
OPERATIONS = frozenset(
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT SETITEM SETITEMS"
    " EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET"
    " BINPERSID GLOBAL REDUCE BUILD".split()
)

# Storage classes by name, as little-endian dtypes; strings, because a pickle can do nothing to a string.
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


class _TensorMaker:
    """Stands for torch._utils._rebuild_tensor_v2; without a __dict__, so that a pickle cannot alter it."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, requires_grad, hooks, *metadata):
        del requires_grad, hooks, metadata
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise pickle.UnpicklingError("a tensor without storage, or with unequal shape and strides")
        if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
            raise pickle.UnpicklingError("a tensor whose offset, shape or strides are no whole numbers")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


_GLOBALS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _TensorMaker(),
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Turns tensors into `_Tensor`; knows no other global names than those of `_GLOBALS`."""

    def find_class(self, module, name):
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which no table of weights needs")
        return _GLOBALS[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or not isinstance(key, str) or any(view):
            raise pickle.UnpicklingError(f"a storage of an unknown kind: {pid!r}")
        if type(size) is not int or size < 0:
            raise pickle.UnpicklingError(f"a storage of {size!r} elements")
        return _Storage(key, dtype, size)


def read_arrays(path):
    """Read the named arrays of a checkpoint.

    Args:
      path: file of `torch.save` (either format) that holds a dictionary of tensors, bare or as its "state_dict"; or
        an .npz file of such arrays.

    Returns:
      Dictionary name -> NumPy array, in the file's order; the prefix "module." of `DataParallel` is taken off.

    Raises:
      CheckpointError: no such file, another format, anything but tensors in it, or sizes that do not fit the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            arrays = _read_legacy(data)
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                arrays = dict(npz.Arrays(archive)) if _is_npz(archive) else _read_zip(archive)
    except (*BROKEN_PICKLE, *npz.UNREADABLE) as error:
        raise CheckpointError(f"{path}: no PyTorch checkpoint that can be trusted: {error}") from error
    if not arrays:
        raise CheckpointError(f"{path}: holds no arrays")
    prefix = "module."
    if all(name.startswith(prefix) for name in arrays):
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _read_legacy(data):
    file = io.BytesIO(data)
    if _unpickle(file) != LEGACY_MAGIC or _unpickle(file) != LEGACY_PROTOCOL:
        raise ValueError("expected the format of torch.save")
    system, found, keys = (_unpickle(file) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("written on a big-endian machine")
    tensors = _tensors(found)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or len(set(keys)) != len(keys) or not set(storages) <= set(keys):
        raise ValueError("a list of storages that lacks some, or names one twice")
    contents = {}
    for key in keys:
        if key not in storages:
            raise ValueError(f"storage {key!r} belongs to no tensor of the table")
        size = int.from_bytes(file.read(8), "little", signed=True)
        contents[key] = _from_bytes(file.read(_bytes_of(storages[key])), storages[key], size)
    if file.read(1):
        raise ValueError("more bytes than storages")
    return {name: _view(tensor, contents) for name, tensor in tensors.items()}


def _read_zip(archive):
    """The format since PyTorch 1.6: <name>/data.pkl, <name>/data/<key>, maybe <name>/byteorder."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("expected one data.pkl in the zip")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and _entry(archive, f"{root}byteorder") != b"little":
        raise ValueError("written on a big-endian machine")
    tensors = _tensors(_unpickle(io.BytesIO(_entry(archive, pickles[0]))))
    contents = {}
    for storage in {tensor.storage for tensor in tensors.values()}:
        contents[storage.key] = _from_bytes(_entry(archive, f"{root}data/{storage.key}"), storage, storage.size)
    return {name: _view(tensor, contents) for name, tensor in tensors.items()}


def _is_npz(archive):
    return all(name.endswith(".npy") for name in archive.namelist())


def _entry(archive, name):
    """Bytes of a zip entry, which PyTorch always stores as they are."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name}: compressed, which torch.save never does")
    return archive.read(info)


def _unpickle(file):
    """Run the pickle at the file's position, after every operation in it has been looked at."""
    start, length, sizes = file.tell(), file.getbuffer().nbytes, _TupleSizes()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name not in OPERATIONS:
            raise pickle.UnpicklingError(f"pickle operation {operation.name}, which no table of weights needs")
        # The unpickler makes its memo as long as the largest index: honest ones count from 0.
        if operation.name == "LONG_BINPUT" and argument > length:
            raise pickle.UnpicklingError(f"pickle memo of {argument} entries in a file of {length} bytes")
        sizes.follow(operation, argument)
    file.seek(start)
    return _Unpickler(file).load()


class _TupleSizes:
    """How many elements each tuple of a pickle has, all the way down: the work of hashing it as a key.

    Tuples that hold one tuple several times, and that one another, take a few bytes a level in a pickle, and each level
    doubles the work.
    """

    LARGEST = 10_000  # a tensor's own have some ten

    def __init__(self):
        self._stack, self._memo = [], {}

    def follow(self, operation, argument):
        """Do to sizes what the operation does to objects."""
        if operation.name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
            return
        size = 1 + sum(self._taken(operation.stack_before))
        if operation.name in ("BINGET", "LONG_BINGET"):
            size = self._memo[argument]
        elif operation.name not in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE"):
            size = 1
        if size > self.LARGEST:
            raise pickle.UnpicklingError(f"a tuple of more than {self.LARGEST:,} elements")
        self._stack += [None if operation.name == "MARK" else size for _ in operation.stack_after]

    def _taken(self, objects):
        """Take objects from the stack, the ones above the last mark where they are asked for: their sizes."""
        found = []
        if pickletools.markobject in objects:
            while (size := self._stack.pop()) is not None:
                found.append(size)
            objects = objects[: objects.index(pickletools.markobject)]
        return found + [self._stack.pop() for _ in objects]


def _tensors(found):
    """The dictionary of tensors in what was unpickled: the thing itself or its "state_dict"."""
    found = _plain(found)
    if isinstance(found.get("state_dict"), dict):
        found = _plain(found["state_dict"])
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"expected a dictionary of tensors, got {type(tensor).__name__} under {name!r}")
    storages = {tensor.storage for tensor in found.values()}
    if len({storage.key for storage in storages}) != len(storages):
        raise ValueError("one storage with two sizes or types")
    return found


def _plain(found):
    """An unpickled dictionary without what its class or its pickle may have hung on it."""
    if not isinstance(found, dict):
        raise ValueError(f"expected a dictionary of tensors, got {type(found).__name__}")
    return dict.copy(found)


def _bytes_of(storage):
    return storage.size * np.dtype(storage.dtype).itemsize


def _from_bytes(content, storage, size):
    if size != storage.size or len(content) != _bytes_of(storage):
        raise ValueError(f"storage {storage.key!r}: expected {storage.size} elements, got {len(content)} bytes")
    return np.frombuffer(content, storage.dtype)


def _view(tensor, contents):
    """The array of a tensor: a copy, C-ordered, of its part of the storage."""
    flat = contents[tensor.storage.key]
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if math.prod(tensor.shape) > flat.size or (math.prod(tensor.shape) and last >= flat.size):
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {flat.size} elements")
    strides = [stride * flat.itemsize for stride in tensor.strides]
    part = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
    return part.copy()

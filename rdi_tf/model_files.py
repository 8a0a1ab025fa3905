"""What a `.keras` file may ask Keras for: looked at before Keras reads it, since its safe mode stops lambdas alone.

Keras imports any module that a file names and calls what it finds there, and a file that is no zip goes to its reader
of HDF5 files, which runs the byte code in them. So a file has to be a zip of the three members that Keras writes, and
its layers and what they are made of have to be classes of Keras, of this package, or classes that this process has
registered (`keras.saving.register_keras_serializable`) from code of its own.
"""

import inspect
import json
import re
import zipfile

from rdi_tf._keras import keras
from rdi_tf.errors import CheckpointError

MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
MAX_CONFIG_BYTES = 32 * 2**20  # fifty times that of NASNetMobile, attached

# Modules of Keras whose public classes a file may ask for, by the names that files have for them.
_PUBLIC = {
    "keras": keras,
    "keras.constraints": keras.constraints,
    "keras.initializers": keras.initializers,
    "keras.layers": keras.layers,
    "keras.losses": keras.losses,
    "keras.metrics": keras.metrics,
    "keras.mixed_precision": keras.mixed_precision,
    "keras.models": keras.models,
    "keras.optimizers": keras.optimizers,
    "keras.optimizers.legacy": keras.optimizers.legacy,
    "keras.optimizers.schedules": keras.optimizers.schedules,
    "keras.regularizers": keras.regularizers,
}
# Public, but they call a function of the file's choice, or read a file whose name stands in the configuration.
_REFUSED = ("DenseFeatures", "IntegerLookup", "Lambda", "StringLookup", "TextVectorization")
_OTHERS = (
    ("keras.src.engine.functional", "Functional"),
    ("tf_keras.src.engine.functional", "Functional"),
    ("rdi_tf.network", "RDINet"),
    ("rdi_tf.compression.quantization", "QuantizedRDINet"),
)
_DATA = ("__bytes__", "__numpy__", "__tensor__")  # values that JSON has no words for
_NAME = re.compile(r"_?[A-Za-z]\w*")  # no special name such as __lambda__, and no way into a class such as os.popen

# Layers that Keras makes of a call such as `x + 1` or `tf.reshape(x, …)`: safe if what they call is.
_CALLS = ("SlicingOpLambda", "TFOpLambda")
_CALLS_MODULE = "tf_keras.src.layers.core.tf_op_layer"
_CALLED = re.compile(
    r"(__operators__|math|nn)\.[a-z_0-9]+|broadcast_to|cast|clip_by_value|concat|convert_to_tensor|einsum|expand_dims"
    r"|gather|identity|image\.resize|linalg\.(einsum|l2_normalize|matmul)|ones_like|pad|repeat|reshape|reverse|shape"
    r"|slice|split|squeeze|stack|stop_gradient|strided_slice|tensordot|tile|transpose|unstack|where|zeros_like"
)


def refuse_code(path):
    """Refuse a model file that could run code of whoever made it; reads its configuration and imports nothing.

    Args:
      path: the file.

    Raises:
      CheckpointError: no `.keras` file as Keras writes it, or one that asks for more than known classes; says why,
        without the path.
      OSError, ValueError, zipfile.BadZipFile: it cannot be read.
    """
    waiting = [{**_read_config(path), "compile_config": None}]  # which is not read: models are loaded uncompiled
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part and not _is_known(part):
                raise CheckpointError(
                    "expected classes of Keras or registered ones, since others could run code of whoever made the "
                    f"file, got {_described(part)}"
                )
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _read_config(path):
    """The content of config.json, from a file that Keras will read as a zip of its own."""
    if not str(path).endswith(".keras"):
        raise CheckpointError("its name does not end in .keras")
    with zipfile.ZipFile(path) as archive:
        if sorted(archive.namelist()) != sorted(MEMBERS):
            raise CheckpointError(f"expected a zip of {', '.join(MEMBERS)}, got one of other files")
        size = archive.getinfo("config.json").file_size
        if size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"expected a config.json of at most {MAX_CONFIG_BYTES:,} bytes, got {size:,}")
        return json.loads(archive.read("config.json"))


def _is_known(table):
    """Whether a serialised object is one that can be made without running code of the file's choice.

    Follows the way in which Keras looks for it: registered under its name, else public in the module that is named.
    Keras looks further where it finds nothing there (in the module under the registered name), so it has to be there.
    """
    name, module, registered_name = table["class_name"], table.get("module"), table.get("registered_name")
    if name in _DATA:
        return True
    if not (isinstance(module, str) and isinstance(registered_name, str | None) and _is_plain(name)):
        return False  # without a module: the older way of writing, which looks at the class's name alone
    registered = keras.saving.get_registered_object(registered_name)
    if registered is not None:
        return inspect.isclass(registered)
    if name in _CALLS:
        return module == _CALLS_MODULE and _CALLED.fullmatch(str(_called(table))) is not None
    if (module, name) in _OTHERS:
        return True
    public = vars(_PUBLIC[module]) if module in _PUBLIC else {}
    return name not in _REFUSED and inspect.isclass(public.get(name))


def _is_plain(name):
    """Whether Keras takes it for the name of a class, not of a function or of something special."""
    return isinstance(name, str) and name != "function" and _NAME.fullmatch(name) is not None


def _called(table):
    """The function that a layer of `_CALLS` calls, or None."""
    config = table.get("config")
    return config.get("function") if isinstance(config, dict) else None


def _described(table):
    names = [table.get("module"), table["class_name"], _called(table)]
    return repr(".".join(str(name) for name in names if name is not None))

"""Model files that would run code when Keras reads them are refused before it does; honest ones are not."""

import json
import zipfile

import pytest
import tensorflow as tf

from rdi_tf import model_files
from rdi_tf._keras import keras
from rdi_tf.config import TrainingConfig
from rdi_tf.errors import CheckpointError
from rdi_tf.network import RDINet, attach_exits, load
from rdi_tf.training.optimisation import sgd

IMAGE = (16, 16, 3)
CALLS = "tf_keras.src.layers.core.tf_op_layer"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A model file of one hidden layer and one exit."""
    path = tmp_path_factory.mktemp("honest") / "model.keras"
    images = keras.Input((2,))
    hidden = keras.layers.Activation("linear", name="hidden")(images)
    RDINet(keras.Model(images, keras.layers.Dense(3, name="main")(hidden))).save(path)
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def with_layer(honest, path, table, node):
    """The honest file with one more layer, which Keras calls with constants while it reads the file."""
    parts = members(honest)
    config = json.loads(parts["config.json"])
    config["config"]["network"]["config"]["layers"].append({**table, "name": "evil", "inbound_nodes": [node]})
    return write(path, {**parts, "config.json": json.dumps(config)})


def byte_code(honest, path, marker):
    """An HDF5 file under another name: its lambda is byte code, and runs when the old reader calls the layer."""
    images = keras.Input((2,))
    evil = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    model = keras.Model(images, keras.layers.Lambda(evil)(images))
    model.save(path.with_suffix(".h5"), save_format="h5")
    marker.unlink()
    return path.with_suffix(".h5").rename(path)


def function_layer(honest, path, marker):
    """A Lambda that is no lambda: Keras imports os and calls os.system."""
    config = {
        "name": "evil",
        "function": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        "function_type": "function",
        "module": "os",
        "output_shape": None,
        "output_shape_type": "raw",
        "output_shape_module": None,
        "arguments": {},
    }
    table = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None, "config": config}
    return with_layer(honest, path, table, [["_CONSTANT_VALUE", -1, f"touch {marker}", {}]])


def file_writer(honest, path, marker):
    """A call of any public function of TensorFlow, here tf.io.write_file."""
    config = {"name": "evil", "function": "io.write_file"}
    table = {"module": CALLS, "class_name": "TFOpLambda", "registered_name": None, "config": config}
    return with_layer(honest, path, table, ["_CONSTANT_VALUE", -1, str(marker), {"contents": "x"}])


def module_importer(honest, path, marker):
    """A class that everything has: not finding it in a module, Keras looks there for the registered name."""
    (marker.parent / "stranger.py").write_text(f"open({str(marker)!r}, 'w').close()")
    table = {"module": "stranger", "class_name": "__class__", "registered_name": "Payload", "config": {}}
    return write(path, {**members(honest), "config.json": json.dumps(table)})


pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
ATTACKS = [byte_code, function_layer, file_writer, module_importer]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_files_are_refused_and_run_nothing(attack, honest, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = attack(honest, tmp_path / "evil.keras", tmp_path / "marker")
    with pytest.raises(CheckpointError, match="evil.keras: not a readable .keras file of rdi-tf: ") as error:
        load(path)
    assert not (tmp_path / "marker").exists()
    assert "File is not a zip file" in str(error.value) or "run code of whoever made the file" in str(error.value)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_would_work_in_keras_safe_mode(attack, honest, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = attack(honest, tmp_path / "evil.keras", tmp_path / "marker")
    try:
        keras.models.load_model(path, compile=False, safe_mode=True)
    except (AttributeError, TypeError):
        pass  # what the constants became is no tensor, or there is no such class; by then the code has run
    assert (tmp_path / "marker").exists()


LAYER = {"module": "keras.layers", "registered_name": None, "config": {}}
CALL = {**LAYER, "module": CALLS, "class_name": "TFOpLambda"}

REFUSED = {
    "Lambda": {**LAYER, "class_name": "Lambda"},
    "older way of writing": {"class_name": "Lambda", "config": {}, "registered_name": "rdi_tf>RDINet"},
    "lambda": {**LAYER, "class_name": "__lambda__"},
    "type": {**LAYER, "class_name": "__typespec__", "spec_name": "TensorSpec"},
    "function of a module": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    "builtin function": {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
    "any module": {**LAYER, "module": "subprocess", "class_name": "Popen"},
    "inside of Keras": {**LAYER, "module": "tf_keras.src.utils.data_utils", "class_name": "os.popen"},
    "another name for it": {**LAYER, "module": "tf_keras.src.layers.core.lambda_layer", "registered_name": "Lambda"}
    | {"class_name": "Absent"},
    "function of Keras": {**LAYER, "module": "keras.models", "class_name": "load_model"},
    "wrapper with a lambda": {**LAYER, "class_name": "DropoutWrapper"},
    "words from a file": {**LAYER, "class_name": "StringLookup"},
    "function of TensorFlow": {**CALL, "config": {"function": "io.write_file"}},
    "function of Keras, called": {**CALL, "config": {"function": "keras.models.load_model"}},
    "class of TensorFlow, called": {**CALL, "config": {"function": "nn.RNNCellDropoutWrapper"}},
    "a call without a function": {**CALL, "config": None},
    "a stranger's call": {**CALL, "module": "stranger", "config": {"function": "math.add"}},
    "method": {**LAYER, "class_name": "ClassMethod"},
    "class of nothing": {**LAYER, "module": "stranger", "class_name": "__class__", "registered_name": "Payload"},
    "class of a module": {**LAYER, "class_name": "__class__", "registered_name": "Lambda"},
    "function under a registered name": {"module": "os", "class_name": "function", "config": "system"}
    | {"registered_name": "Custom>Adam"},
    "lambda under a registered name": {**LAYER, "class_name": "__lambda__", "registered_name": "Custom>Adam"},
    "numbers": {**LAYER, "class_name": 5},
    "lists": {**LAYER, "class_name": "Dense", "registered_name": []},
}


@pytest.mark.parametrize("where", ["whole", "layer", "deep"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_may_run_code_is_refused_wherever_it_stands(name, where, honest, tmp_path):
    parts = members(honest)
    config = json.loads(parts["config.json"])
    layers = config["config"]["network"]["config"]["layers"]
    if where == "whole":
        config = REFUSED[name]
    elif where == "layer":
        layers[1] = REFUSED[name]
    else:
        layers[1]["config"]["extra"] = [[{"more": REFUSED[name]}]]
    path = write(tmp_path / "model.keras", {**parts, "config.json": json.dumps(config)})
    with pytest.raises(CheckpointError, match="could run code of whoever made the file, got '"):
        model_files.refuse_code(path)


def test_registered_functions_are_no_classes(honest, tmp_path, monkeypatch):
    registered = keras.saving.get_custom_objects()
    monkeypatch.setitem(registered, "mine>layer", keras.layers.ReLU)
    monkeypatch.setitem(registered, "mine>function", print)
    table = {"module": "mine", "class_name": "Layer", "config": {}}
    node = [["hidden", 0, 0, {}]]
    for name in ("Layer", "_PrivateLayer"):
        mine = {**table, "class_name": name, "registered_name": "mine>layer"}
        model_files.refuse_code(with_layer(honest, tmp_path / "a.keras", mine, node))
    with pytest.raises(CheckpointError, match="registered ones, .*, got 'mine.Layer'"):
        model_files.refuse_code(
            with_layer(honest, tmp_path / "b.keras", {**table, "registered_name": "mine>function"}, node)
        )


def test_other_members_names_and_sizes_are_refused(honest, tmp_path, monkeypatch):
    parts = members(honest)
    wrong = [
        {"config.json": parts["config.json"]},
        {**parts, "assets/words.txt": b""},
        {"config.json": parts["config.json"], "metadata.json": b"{}", "model.weights.npz": b""},
    ]
    for content in wrong:
        with pytest.raises(CheckpointError, match="expected a zip of config.json, metadata.json, model.weights.h5"):
            load(write(tmp_path / "model.keras", content))
    with pytest.raises(CheckpointError, match="model.h5: not a readable .keras file.*does not end in .keras"):
        load(write(tmp_path / "model.h5", parts))
    monkeypatch.setattr(model_files, "MAX_CONFIG_BYTES", 100)
    with pytest.raises(CheckpointError, match="a config.json of at most 100 bytes, got "):
        load(honest)


def operators():
    """Calls of TensorFlow's functions, which Keras turns into layers."""
    image = keras.Input(IMAGE)
    x = keras.layers.Conv2D(4, 3, activation=keras.layers.LeakyReLU(0.1), name="cut")(2.0 * image - 1.0)
    x = tf.reduce_mean(tf.nn.relu6(x + 3.0) / 6.0, [1, 2])
    x = tf.reshape(tf.concat([x, x[:, :2]], -1), (-1, 6))
    return keras.Model(image, keras.layers.Dense(4)(x))


def settings():
    """Objects inside of layers: regularisers, constraints, initialisers; a compiled model."""
    image = keras.Input(IMAGE)
    extras = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm", "activation": "swish"}
    x = keras.layers.Conv2D(4, 3, **extras, name="cut")(image)
    x = keras.layers.Normalization(mean=0.5, variance=0.1)(keras.layers.LayerNormalization()(x))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x)))


def keras_cv_backbone():
    from keras_cv.models import ResNetV2Backbone

    shape = {"stackwise_filters": [8], "stackwise_blocks": [2], "stackwise_strides": [1]}
    backbone = ResNetV2Backbone(**shape, include_rescaling=True, input_shape=IMAGE)
    pooled = keras.layers.GlobalAveragePooling2D(name="cut")(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(4)(pooled))


@pytest.mark.parametrize("make", [operators, settings, keras_cv_backbone])
def test_honest_networks_of_others_are_read(make, tmp_path):
    net = attach_exits(make(), ["cut"])
    net.network.compile(keras.optimizers.legacy.Adam(0.01), loss=[keras.losses.CategoricalCrossentropy()] * 2)
    net.compile(sgd(TrainingConfig()))
    net.save(tmp_path / "model.keras")
    images = tf.random.stateless_uniform((2, *IMAGE), (1, 2))
    tf.debugging.assert_near(load(tmp_path / "model.keras")(images), net(images))

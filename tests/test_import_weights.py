"""Reading PyTorch files safely, and the authors' weights in our network."""

import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from click.testing import CliRunner

from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.cli import main as cli
from rdi_tf.config import Config, ModelConfig
from rdi_tf.data.batches import as_arrays, load_dataset
from rdi_tf.errors import CheckpointError, ConfigError
from rdi_tf.evaluation.robustness import ExitAttacker
from rdi_tf.importing import import_weights, read_arrays
from rdi_tf.importing.weights import assign
from rdi_tf.models import build_network
from rdi_tf.policies import decide, get_policy
from rdi_tf.runs import RunFolder

FILE = "triple_wins_resnet38_maxavg"
# ResNet14 has a branch of each of the three kinds, after the first of two blocks in each group.
SMALL = ModelConfig(backbone="resnet", input_shape=(32, 32, 3), branch="paper", depth=14)


class Storage:
    """Numbers that lie flat in a checkpoint, as a torch storage does."""

    def __init__(self, key, values, size=None):
        self.key, self.values = key, np.asarray(values, "<f4")
        self.size = self.values.size if size is None else size


class Tensor:
    """What `torch.save` writes of a tensor: a view of a storage."""

    def __init__(self, storage, shape, strides, offset=0):
        self.storage, self.view = storage, (offset, shape, strides)


def whole(key, array):
    """The tensor of an array that has a storage of its own."""
    array = np.asarray(array, "<f4")
    strides = tuple(stride // 4 for stride in array.strides)
    return Tensor(Storage(key, array.ravel()), array.shape, strides)


@pytest.fixture
def torch_stub(monkeypatch):
    """Modules that `pickle` takes for torch's while it writes; PyTorch itself is not needed."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2 = types.FunctionType((lambda: None).__code__, {"__name__": "torch._utils"})
    utils._rebuild_tensor_v2.__qualname__ = utils._rebuild_tensor_v2.__name__ = "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


@pytest.fixture
def save(tmp_path, torch_stub):
    """`save(table, format)` writes what `torch.save` would; returns the path."""
    torch, utils = torch_stub

    def write(table, layout="legacy"):
        path, storages = tmp_path / f"{layout}.pth", {}

        class Pickler(pickle.Pickler):
            def persistent_id(self, item):
                if not isinstance(item, Storage):
                    return None
                storages[item.key] = item
                view = (None,) if layout == "legacy" else ()
                return ("storage", torch.FloatStorage, item.key, "cpu", item.size, *view)

            def reducer_override(self, item):
                if not isinstance(item, Tensor):
                    return NotImplemented
                offset, shape, strides = item.view
                return utils._rebuild_tensor_v2, (item.storage, offset, shape, strides, False, OrderedDict())

        body = io.BytesIO()
        Pickler(body, protocol=2).dump(table)
        (write_legacy if layout == "legacy" else write_zip)(path, body.getvalue(), storages)
        return path

    return write


def write_legacy(path, body, storages):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [body, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        parts += [struct.pack("<q", storages[key].size), storages[key].values.tobytes()]
    path.write_bytes(b"".join(parts))


def write_zip(path, body, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", b"3\n")
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.values.tobytes())


LAYOUTS = pytest.mark.parametrize("layout", ["legacy", "zip"])


@LAYOUTS
def test_reads_tensors_in_both_formats(save, layout):
    numbers = Storage("0", np.arange(12))
    table = OrderedDict(
        {
            "module.plain": whole("1", [[1.5, -2.0], [0.25, 8.0]]),
            "module.part": Tensor(numbers, (2, 3), (1, 4), offset=1),  # transposed, and not from the start
            "module.scalar": Tensor(numbers, (), (), offset=11),
        }
    )
    table._metadata = OrderedDict({"": {"version": 1}})  # as a module's state_dict() has it
    arrays = read_arrays(save({"arch": "net", "state_dict": table}, layout))
    assert list(arrays) == ["plain", "part", "scalar"]
    np.testing.assert_array_equal(arrays["plain"], np.float32([[1.5, -2.0], [0.25, 8.0]]))
    np.testing.assert_array_equal(arrays["part"], np.float32([[1, 5, 9], [2, 6, 10]]))
    assert arrays["scalar"].shape == () and arrays["scalar"] == 11
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}


def test_bare_table_and_prefix_that_not_all_names_have(save):
    table = {"module.a": whole("0", [1.0]), "b": whole("1", [2.0])}
    assert list(read_arrays(save(table))) == ["module.a", "b"]


class Command:
    """Pickled, this makes a plain unpickler run a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def attacks(command):
    """Pickles that run a shell command when they are read without care, by several pickle operations."""
    text = command.encode()
    return {
        "reduce": pickle.dumps(Command(command), 2),
        "reduce, framed": pickle.dumps(Command(command), 4),
        "reduce, oldest": pickle.dumps(Command(command), 0),
        "instance": b"(S'" + text + b"'\nios\nsystem\n.",
        "object": b"(cos\nsystem\nS'" + text + b"'\no.",
        "in a table": pickle.dumps({"state_dict": OrderedDict(weight=Command(command))}, 2),
        "eval": b"cbuiltins\neval\n(X" + struct.pack("<I", len(text)) + text + b"tR.",
        "state": b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsbX\x02\x00\x00\x00hib.",
    }


@pytest.mark.parametrize("kind", list(attacks("")))
@pytest.mark.parametrize("place", ["alone", "magic number", "table", "keys", "zip"])
def test_code_in_a_pickle_is_refused_and_not_run(kind, place, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "file.pth"
    body = attacks(f"touch {marker}")[kind]
    honest = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    at = {"magic number": 0, "table": 3, "keys": 4}
    if place == "zip":
        write_zip(path, body, {})
    elif place == "alone":
        path.write_bytes(body)
    else:
        path.write_bytes(b"".join([*honest[: at[place]], body, *honest[at[place] + 1 :]]))
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint that can be trusted: (pickle operation|asks for)"):
        read_arrays(path)
    assert not marker.exists()


def test_the_attack_would_work_on_a_plain_unpickler(tmp_path):
    pickle.loads(attacks(f"touch {tmp_path / 'marker'}")["reduce"])
    assert (tmp_path / "marker").exists()


def test_python_objects_in_an_npz_are_refused(tmp_path):
    marker = tmp_path / "marker"
    np.savez(tmp_path / "file.npz", weight=np.array([Command(f"touch {marker}")], object))
    with pytest.raises(CheckpointError, match="Python objects"):
        read_arrays(tmp_path / "file.npz")
    assert not marker.exists()


def test_npz_that_claims_more_than_it_holds(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("weight.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CheckpointError, match="more numbers than bytes"):
        read_arrays(tmp_path / "file.npz")


def damaged(data):
    """The same bytes but for some in the middle of the last member."""
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 40]) + data[middle + 40 :]


def encrypted(data):
    """The same file with the flag "encrypted" in every header, which is all that zipfile looks at first."""
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(header)
        while start >= 0:
            data = data[: start + flags] + bytes([data[start + flags] | 1]) + data[start + flags + 1 :]
            start = data.find(header, start + 4)
    return data


@pytest.mark.parametrize("spoil", [damaged, encrypted])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_that_cannot_be_unpacked(tmp_path, method, spoil):
    content = io.BytesIO()
    np.save(content, np.random.default_rng(0).normal(size=2000))
    with zipfile.ZipFile(tmp_path / "file.npz", "w", method) as archive:
        archive.writestr("weight.npy", content.getvalue())
    assert list(read_arrays(tmp_path / "file.npz")) == ["weight"]
    (tmp_path / "file.npz").write_bytes(spoil((tmp_path / "file.npz").read_bytes()))
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint that can be trusted"):
        read_arrays(tmp_path / "file.npz")


@LAYOUTS
@pytest.mark.parametrize(
    "tensor, reason",
    [
        (Tensor(Storage("0", [1, 2], size=2**60), (2,), (1,)), "expected 1152921504606846976 elements"),
        (Tensor(Storage("0", [1, 2], size=1), (1,), (1,)), "storage|bytes"),
        (Tensor(Storage("0", [1, 2]), (3,), (1,)), "beyond its storage"),
        (Tensor(Storage("0", [1, 2]), (2,), (1,), offset=1), "beyond its storage"),
        (Tensor(Storage("0", [1, 2]), (2**40,), (0,)), "beyond its storage"),
        (Tensor(Storage("0", [1, 2]), (2,), (-1,), offset=1), "whole numbers"),
        (Tensor(Storage("0", [1, 2]), (2, 1), (1,)), "unequal shape"),
        (Tensor([1.0, 2.0], (2,), (1,)), "without storage"),
        (1.5, "got float under 'weight'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(save, layout, tensor, reason):
    with pytest.raises(CheckpointError, match=reason):
        read_arrays(save({"weight": tensor}, layout))


@LAYOUTS
def test_truncated_files_are_refused_at_every_length(save, layout):
    path = save({"weight": whole("0", [1.0, 2.0, 3.0])}, layout)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
            read_arrays(path)


def test_huge_memo_is_refused(tmp_path):
    (tmp_path / "file.pth").write_bytes(b"\x80\x02Nr\xf0\xff\xff\xff.")
    with pytest.raises(CheckpointError, match="memo of 4294967280 entries"):
        read_arrays(tmp_path / "file.pth")


@pytest.mark.parametrize("wider", [b"q\0h\0\x86", b"q\0h\0h\0\x87", b"q\0(h\0h\0h\0h\0t"])
def test_tuples_that_take_for_ever_to_hash_are_refused(tmp_path, wider):
    """A dictionary's key of 40 levels, each of which holds the one below several times."""
    (tmp_path / "file.pth").write_bytes(b"\x80\x02}K\x01" + 40 * wider + b"Ns.")
    with pytest.raises(CheckpointError, match="a tuple of more than 10,000 elements"):
        read_arrays(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"weight": 1.0}, 2), b"\x80\x02]."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
        read_arrays(tmp_path / "file.pth")


def test_missing_file_and_empty_table(save, tmp_path):
    with pytest.raises(CheckpointError, match="nothing.pth: cannot be read: No such file"):
        read_arrays(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="holds no arrays"):
        read_arrays(save({}))


def batch_norm_shapes(name, channels):
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")} | {
        f"{name}.num_batches_tracked": ()
    }


def block_shapes(name, before, channels):
    shapes = {f"{name}.conv1.weight": (channels, before, 3, 3), f"{name}.conv2.weight": (channels, channels, 3, 3)}
    shapes |= batch_norm_shapes(f"{name}.bn1", channels) | batch_norm_shapes(f"{name}.bn2", channels)
    if before != channels:
        shapes[f"{name}.downsample.0.weight"] = (channels, before, 1, 1)
        shapes |= batch_norm_shapes(f"{name}.downsample.1", channels)
    return shapes


def small_arrays():
    """Random arrays of a ResNet14 with branches, under the authors' names."""
    shapes = {"conv1.weight": (16, 3, 3, 3)} | batch_norm_shapes("bn1", 16)
    for group, (before, channels) in enumerate([(16, 16), (16, 32), (32, 64)]):
        shapes |= block_shapes(f"group{group}_layer0", before, channels)
        shapes |= block_shapes(f"group{group}_layer1", channels, channels)
    shapes |= {"branch_layer1.1.weight": (64, 16, 5, 5), "branch_layer1.5.weight": (32, 64, 3, 3)}
    shapes |= batch_norm_shapes("branch_layer1.2", 64) | batch_norm_shapes("branch_layer1.6", 32)
    shapes |= block_shapes("branch_layer2.1", 32, 32)
    for dense, channels in {"branch_layer1.9": 32, "branch_layer2.4": 32, "branch_layer3.2": 64, "fc": 64}.items():
        shapes |= {f"{dense}.weight": (10, channels), f"{dense}.bias": (10,)}
    random = np.random.default_rng(0)
    arrays = {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: np.int64(7) if name.endswith("tracked") else array for name, array in arrays.items()}


@pytest.fixture(scope="module")
def small_network():
    return build_network(SMALL)


def test_every_array_lands_in_its_place(small_network):
    arrays = small_arrays()
    assign(small_network, arrays)

    def weights(name):
        return [weight.numpy() for weight in small_network.get_layer(name).weights]

    kernel = arrays["group1_layer0.conv1.weight"]
    (ours,) = weights("group2_block1_conv1")
    for out, channel, row, column in [(0, 0, 0, 0), (31, 5, 0, 2), (7, 15, 2, 1)]:
        assert ours[row, column, channel, out] == kernel[out, channel, row, column]
    for name, torch in {
        "group3_block1_shortcut_bn": "group2_layer0.downsample.1",
        "branch_1_bn2": "branch_layer1.6",
    }.items():
        for ours, part in zip(weights(name), ("weight", "bias", "running_mean", "running_var"), strict=True):
            np.testing.assert_array_equal(ours, arrays[f"{torch}.{part}"])
    for name, torch in {"branch_2_logits": "branch_layer2.4", "logits": "fc"}.items():
        np.testing.assert_array_equal(weights(name)[0], arrays[f"{torch}.weight"].T)
        np.testing.assert_array_equal(weights(name)[1], arrays[f"{torch}.bias"])
    total = sum(array.size for name, array in arrays.items() if not name.endswith("tracked"))
    assert total == sum(weight.shape.num_elements() for weight in small_network.weights)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda arrays: arrays.pop("branch_layer2.1.bn2.running_var"), "no array 'branch_layer2.1.bn2.running_var'"),
        (lambda arrays: arrays.update({"fc2.weight": np.ones((10, 64))}), "has an array 'fc2.weight'"),
        (lambda arrays: arrays.update({"fc.bias": np.ones(11, np.float32)}), r"fc.bias: expected .* shape \(10,\)"),
        (lambda arrays: arrays.update({"fc.bias": np.full(10, np.nan, np.float32)}), "fc.bias: expected finite"),
        (lambda arrays: arrays.update({"fc.bias": np.ones(10, np.int64)}), "fc.bias: expected finite floats"),
    ],
)
def test_misfits_are_named_and_nothing_is_assigned(small_network, change, reason):
    before = [weight.numpy() for weight in small_network.weights]
    arrays = {name: array + 1 for name, array in small_arrays().items()}
    change(arrays)
    with pytest.raises(CheckpointError, match=reason):
        assign(small_network, arrays)
    for weight, kept in zip(small_network.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_import_writes_a_run(tmp_path):
    np.savez(tmp_path / "weights.npz", **small_arrays())
    config = Config(model=SMALL, name="small", source="A test.")
    run = import_weights(tmp_path / "weights.npz", config, tmp_path / "run", thresholds=[0.5, 0.75, 1])
    net = load_run(RunFolder.open(tmp_path / "run"))
    assert net.thresholds == (0.5, 0.75, 1.0)
    assert net.config == run.config
    assert run.config.source.startswith("Weights imported from weights.npz (SHA-256 ")
    assert run.config.source.endswith("). A test.")
    np.testing.assert_array_equal(net.network.get_layer("logits").kernel, small_arrays()["fc.weight"].T)
    with pytest.raises(CheckpointError, match="model.keras exists"):
        import_weights(tmp_path / "weights.npz", config, tmp_path / "run")


def test_import_refuses_other_networks_and_thresholds(tmp_path):
    np.savez(tmp_path / "weights.npz", **small_arrays())
    with pytest.raises(ConfigError, match="expected a configuration with model.backbone 'resnet'.*'smallcnn'"):
        import_weights(tmp_path / "weights.npz", Config.load("mnist-smallcnn"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"thresholds: expected -1 \(nothing leaves\)"):
        import_weights(tmp_path / "weights.npz", Config(model=SMALL), tmp_path / "run", thresholds=[0.5, 0.75, -5])
    with pytest.raises(ConfigError, match="thresholds: expected 3 numbers"):
        import_weights(tmp_path / "weights.npz", Config(model=SMALL), tmp_path / "run", thresholds=[0.5])
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def reference(shared):
    """What was measured with the authors' weights in their own code."""
    return json.loads((shared / "reference" / "paper_tables.json").read_text())["released_checkpoint_measured"]


@pytest.fixture(scope="module")
def authors_net(shared, reference, tmp_path_factory):
    """The authors' network, imported by the command line with the thresholds of table 3."""
    folder = tmp_path_factory.mktemp("authors") / "run"
    thresholds = ",".join(map(str, reference["thresholds_used_for_table3"]))
    arguments = ["import-weights", str(shared / "reference" / f"{FILE}.pth.tar"), "--preset", "cifar10-resnet38"]
    arguments += ["--run-dir", str(folder), "--thresholds", thresholds, "--json"]
    result = CliRunner().invoke(cli.main, arguments, prog_name="rdi-tf")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "run": str(folder),
        "model": str(folder / "model.keras"),
        "thresholds": reference["thresholds_used_for_table3"],
    }
    return load_run(RunFolder.open(folder))


def test_command_refuses_thresholds_that_are_no_numbers(tmp_path):
    arguments = ["import-weights", "file.pth", "--preset", "cifar10-resnet38", "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(cli.main, [*arguments, "--thresholds", "0.5,much"], prog_name="rdi-tf")
    assert result.exit_code == 2
    assert result.stderr == "rdi-tf: error: --thresholds '0.5,much': expected numbers separated by commas\n"


def test_both_files_of_the_authors_weights_hold_the_same(shared):
    from_torch = read_arrays(shared / "reference" / f"{FILE}.pth.tar")
    from_numpy = read_arrays(shared / "reference" / f"{FILE}.npz")
    assert list(from_torch) == list(from_numpy)
    for name, array in from_torch.items():
        assert array.dtype == from_numpy[name].dtype
        np.testing.assert_array_equal(array, from_numpy[name])


def figures(net, tfds_dir, limit):
    """Accuracy of each exit, of the policy, and the exits' shares on clean CIFAR-10 test images."""
    config = net.config
    images, labels = as_arrays(load_dataset(config.data, "test", config.model.input_shape, tfds_dir, limit))
    logits = ExitAttacker(net, config.evaluation).clean_logits(images)
    decision = decide(get_policy(config.policy.name), logits, net.thresholds)
    per_exit = 100 * (logits.argmax(axis=-1) == labels[:, None]).mean(axis=0)
    shares = np.bincount(decision.exits, minlength=net.num_exits) / len(labels)
    return per_exit, 100 * (decision.predictions == labels).mean(), shares


def test_authors_weights_on_the_first_thousand_images(authors_net, tfds_dir):
    # Read off when the whole test set gave the authors' figures; one image in either direction is rounding.
    per_exit, policy, shares = figures(authors_net, tfds_dir, 1000)
    np.testing.assert_allclose(per_exit, [73.4, 78.7, 79.4, 82.7, 84.1, 86.7, 86.2], atol=0.1001)
    assert policy == pytest.approx(85.9, abs=0.1001)
    np.testing.assert_allclose(shares, [0.094, 0.114, 0.111, 0.232, 0.171, 0.158, 0.120], atol=0.0011)


@pytest.mark.slow
def test_authors_weights_on_the_whole_test_set(authors_net, tfds_dir, reference):
    per_exit, policy, shares = figures(authors_net, tfds_dir, None)
    np.testing.assert_allclose(per_exit, reference["clean_accuracy_per_exit"], atol=0.0201)
    assert policy == pytest.approx(reference["TA_with_table3_thresholds"], abs=0.0201)
    np.testing.assert_allclose(shares, reference["exit_share_with_table3_thresholds"], atol=0.00021)
    average = float(shares @ np.array(exit_costs(authors_net).paper_mflops))
    assert average == pytest.approx(reference["clean_average_MFlops_paper_accounting"], abs=0.011)

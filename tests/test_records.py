"""Networks that are kept in results/ still give the figures that stand beside them."""

import json
import shutil

import pytest

from rdi_tf.calibration import exit_costs, load_run
from rdi_tf.evaluation.run import evaluate
from rdi_tf.runs import RunFolder

KEPT = [
    "cifar10-resnet38-strict",
    "cifar10-resnet38-single-strict",
    "cifar10-resnet26-single-strict",
    "cifar10-resnet38-strict-residual",
]
RECORD = "all-pgd-20-first-1000.json"
A_FEW_IMAGES = 0.003  # of 1,000: other processors round logits otherwise, which moves images across thresholds


@pytest.mark.parametrize("name", KEPT)
def test_clean_images_are_called_as_recorded(repository, tfds_dir, tmp_path, name):
    kept = repository / "results" / name
    run = tmp_path / "run"
    run.mkdir()
    for file in ("config.toml", "model.keras"):
        shutil.copy(kept / file, run)
    recorded = json.loads((kept / RECORD).read_text(encoding="utf-8"))
    net = load_run(RunFolder.open(run))
    assert list(net.thresholds) == recorded["thresholds"]
    assert list(exit_costs(net).executed_macs) == recorded["costs"]["executed_macs"]
    found = evaluate(run, "none", limit=1000, data_dir=tfds_dir, checks=False)
    assert found.clean.accuracy == pytest.approx(recorded["clean"]["accuracy"], abs=A_FEW_IMAGES)
    assert found.clean.exit_shares == pytest.approx(recorded["clean"]["exit_shares"], abs=A_FEW_IMAGES)


def test_every_network_that_is_kept_is_tested(repository):
    assert sorted(path.parent.name for path in (repository / "results").glob("*/model.keras")) == sorted(KEPT)

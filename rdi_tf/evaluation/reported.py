"""Figures that the paper reports, to stand beside measured ones. No TensorFlow."""

import math
import tomllib
from dataclasses import dataclass
from importlib import resources

# Suites whose rows are the paper's; "" is a list of attacks.
PAPER_SUITES = ("", "paper", "all")
# What the searches of all its tables have in common.
_PLAIN_DEFENCE = {"clean_share": 0.5, "outputs": "exits", "alignment": 0, "trades": 0, "distillation": 0}
_PLAIN_DEFENCE |= {"weight_perturbation": 0}
_PLAIN_SEARCH = {"norm": "linf", "restarts": 1, "loss": "cross_entropy", "random_start": True}


@dataclass(frozen=True)
class ReportedPoint:
    """A network of the paper in its Figure 6.

    Attributes:
      network: what it is.
      backbone: "smallcnn", "resnet38" or "mobilenetv2".
      dataset: TFDS name.
      source: the table that has the figures.
      clean_accuracy, robust_accuracy: percent; the latter the lowest of the attacks.
      paper_mflops: average cost, in the paper's unit.
    """

    network: str
    backbone: str
    dataset: str
    source: str
    clean_accuracy: float
    robust_accuracy: float
    paper_mflops: float


def reported_rows(config, attack):
    """The paper's figures for the same experiment.

    Args:
      config: the run's `Config`.
      attack: how the evaluation's attack searched, as `EvaluationResult.attack` holds it.

    Returns:
      (name, rows): the table's name in the paper, and a dict from its row names to figures, as
      `rdi_tf.evaluation.tables.rows` takes it. ("", {}) where the paper has no such experiment: another network
      (backbone, depth, width, size of its images, positions of its exits, compressed), data set, defence, or attack.
      Light branches, another training schedule, or other steps of the defence's attack make no difference here; the
      report says them.
    """
    table, model = _read(), config.model
    if any(attack.get(key, value) != value for key, value in _PLAIN_SEARCH.items()):
        return "", {}
    if config.compression.method != "none" or model.width_multiplier != 1 or not _is_plain(config):
        return "", {}
    if list(model.input_shape) != table["input_shape"].get(config.data.name):
        return "", {}
    wanted = (backbone_name(model), config.data.name, attack.get("algorithm"))
    for entry in table["table"]:
        same_network = (entry["backbone"], entry["dataset"], entry["algorithm"]) == wanted
        if not (same_network and _same_search(entry, attack)):
            continue
        if model.exits == ():
            return _single_exit_rows(entry, config.defence.name)
        same_exits = model.exits is None or list(model.exits) == table["exits"][entry["backbone"]]
        if same_exits and config.defence.name in table["columns"]:
            column = table["columns"].index(config.defence.name)
            return entry["name"], {row: figures[column] for row, figures in entry["rows"].items()}
    return "", {}


def _is_plain(config):
    """Whether a defence is one of the paper's: half clean images, half attacked within the radius of the evaluation."""
    defence, attack = config.defence, config.defence.attack
    if defence.name == "standard":
        return True
    radius = attack.algorithm == "wrm" or math.isclose(attack.epsilon, config.evaluation.epsilon, rel_tol=0.01)
    plain = all(getattr(defence, key) == value for key, value in _PLAIN_DEFENCE.items())
    return plain and radius and (attack.norm, attack.loss) == ("linf", "cross_entropy")


def _same_search(entry, attack):
    """Whether an attack took the steps of a table's, of the same algorithm."""
    if entry["algorithm"] != "fgsm" and entry["steps"] != attack.get("steps"):
        return False
    lengths = [key for key in ("epsilon", "step_size") if key in entry]
    return all(math.isclose(entry[key], attack.get(key, 0), rel_tol=0.01) for key in lengths)


def _single_exit_rows(entry, defence):
    """Rows of the plain backbone (Table 1), which the paper defended and attacked by PGD alone."""
    named = (point for point in reported_points(entry["dataset"]) if point.source == "Table 1")
    point = next((point for point in named if point.backbone == entry["backbone"]), None)
    if point is None or entry["algorithm"] != "pgd" or defence == "standard":
        return "", {}
    figures = (point.clean_accuracy, point.robust_accuracy, point.paper_mflops)
    return point.source, dict(zip(("TA", "ATA (Main Branch)", "Average MFlops"), figures, strict=True))


def reported_beside(result, config):
    """The paper's figures that may stand beside an evaluation.

    Args:
      result: a `rdi_tf.evaluation.results.EvaluationResult`.
      config: the `Config` of its run.

    Returns:
      (name, rows) as `reported_rows`'; ("", {}) too for other images than the test split's, for another exit rule than
      the paper's, and for suites whose rows share names with the paper's without meaning the same. The worst case is
      left out where not all of the paper's attacks were made, of which it is the worst, or others, too; the random
      attack, which the paper has in a table of its own, may have been made.
    """
    if result.split != "test" or result.suite not in PAPER_SUITES or result.policy != "entropy":
        return "", {}
    name, rows = reported_rows(config, result.attack)
    made = {attack.name for attack in result.attacks}
    if made - {"random"} != {*result.costs.exit_names, "average", "max_average"}:
        rows.pop("ATA (Worst-Case)", None)
    return name, rows


def reported_points(dataset):
    """The `ReportedPoint`s on a data set, a list."""
    return [
        ReportedPoint(
            entry["network"],
            entry["backbone"],
            entry["dataset"],
            entry["source"],
            entry["TA"],
            entry["ATA"],
            entry["MFlops"],
        )
        for entry in _read()["point"]
        if entry["dataset"] == dataset
    ]


def backbone_name(model):
    """What the paper's tables are kept under for a `ModelConfig`: ResNets by depth, and by unequal groups."""
    groups = "".join(f"-{blocks}" for blocks in model.group_blocks) if len(set(model.group_blocks)) > 1 else ""
    return f"resnet{model.depth}{groups}" if model.backbone == "resnet" else model.backbone


def _read():
    return tomllib.loads((resources.files("rdi_tf.evaluation") / "reported.toml").read_text(encoding="utf-8"))

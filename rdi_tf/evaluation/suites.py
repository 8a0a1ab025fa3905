"""Which attacks an evaluation runs: suites by name, as data, and lists of attacks.

An attack's name is its form, after the way to search and a slash if that is not the run's own evaluation attack:
"main", "apgd-ce/average", "square/rerouted".
"""

import dataclasses
from dataclasses import dataclass, field

from rdi_tf.attacks import SLOWDOWN, form_names, policy_form_names
from rdi_tf.config import AttackConfig
from rdi_tf.errors import ConfigError


@dataclass(frozen=True)
class Search:
    """A way to search, relative to the run's evaluation attack, whose ball stays as it is.

    Attributes:
      changes: fields of `AttackConfig` that it replaces.
      step_share: step size as a share of epsilon; None to leave it.
      norms: norms that it can search.
      classes: least number of classes that it needs.
    """

    changes: dict = field(default_factory=dict)
    step_share: float | None = None
    norms: tuple[str, ...] = ("linf", "l2")
    classes: int = 2

    def applied(self, attack):
        """The `AttackConfig` that searches the ball of `attack` this way."""
        step_size = attack.step_size if self.step_share is None else self.step_share * attack.epsilon
        return dataclasses.replace(attack, step_size=step_size, **self.changes)

    def obstacle(self, attack, num_classes):
        """Why it cannot search the ball of `attack`, in words, or None."""
        if attack.norm not in self.norms:
            return f"it does not search {attack.norm} balls"
        if attack.algorithm == "wrm" and "algorithm" in self.changes:
            return "wrm's epsilon weighs its loss and is no radius"
        if num_classes < self.classes:
            return f"it needs {self.classes} classes, the network has {num_classes}"
        return None


_PGD = {"algorithm": "pgd", "loss": "cross_entropy", "random_start": True}
_APGD = {"algorithm": "apgd", "steps": 100, "restarts": 1, "random_start": True}

# By the names that stand before the slash. "" is the run's own evaluation attack.
SEARCHES = {
    "": Search(),
    "pgd-10": Search({**_PGD, "steps": 10, "restarts": 1}, step_share=0.25),
    "pgd-r5": Search({**_PGD, "steps": 40, "restarts": 5}, step_share=0.1),
    # Carlini and Wagner's margin by projected gradients.
    "cw": Search({**_PGD, "loss": "margin", "steps": 40, "restarts": 1}, step_share=0.1),
    # The parts of AutoAttack (Croce and Hein, ICML 2020), with its numbers of steps, targets and queries.
    "apgd-ce": Search({**_APGD, "loss": "cross_entropy"}),
    "apgd-dlr": Search({**_APGD, "loss": "dlr"}, classes=3),
    "apgd-dlr-t": Search({**_APGD, "loss": "dlr_targeted", "target_classes": 9}, classes=4),
    "square": Search({"algorithm": "square", "loss": "margin", "steps": 5000, "restarts": 1}, norms=("linf",)),
}


@dataclass(frozen=True)
class Suite:
    """A list of attacks.

    Attributes:
      attacks: names; "{exit}" in one stands for every exit in turn.
      in_turns: every attack after the first meets only the images that those before it have left standing.
    """

    attacks: tuple[str, ...]
    in_turns: bool = False


SUITES = {
    # Hu et al. (ICLR 2020), table 3.
    "paper": Suite(("{exit}", "average", "max_average")),
    "all": Suite(("{exit}", "average", "max_average", "random")),
    "none": Suite(()),
    "quick": Suite(("pgd-10/main", "pgd-10/average", "pgd-10/max_average", "pgd-10/rerouted")),
    # The least that a network with many exits must survive, by the evaluation's own attack.
    "strict": Suite(("average", "rerouted", "{exit}", "policy_{exit}"), in_turns=True),
    # Max-average is in neither of the two: it takes one of the single attacks' images, and survivors have survived
    # all of those.
    "strong": Suite(
        (
            "average",
            "apgd-ce/average",
            "apgd-ce/main",
            "apgd-ce/rerouted",
            "pgd-r5/{exit}",
            "pgd-r5/average",
            "pgd-r5/rerouted",
            "pgd-r5/policy_{exit}",
            "cw/rerouted",
            "apgd-dlr-t/average",
            "apgd-dlr-t/main",
            "apgd-dlr-t/rerouted",
            "square/rerouted",
        ),
        in_turns=True,
    ),
    "slowdown": Suite(("slowdown", "pgd-r5/slowdown")),
}


@dataclass(frozen=True)
class NamedAttack:
    """One attack of an evaluation.

    Attributes:
      name: what results call it.
      form: what `rdi_tf.attacks.craft` calls its form.
      search: the `AttackConfig` that it searches by.
      on_survivors: whether it meets only the images that the attacks before it have left standing.
    """

    name: str
    form: str
    search: AttackConfig
    on_survivors: bool = False


@dataclass(frozen=True)
class Plan:
    """What an evaluation runs.

    Attributes:
      name: the suite's name; empty for a list of attacks.
      attacks: tuple of `NamedAttack`.
      left_out: for each attack of the suite that this network or ball does not admit, a sentence that says why.
    """

    name: str
    attacks: tuple[NamedAttack, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attacked:
    """What a plan of attacks found.

    Attributes:
      logits: dict from attack name to exit logits (n, exits, classes). An attack on survivors leaves an image that
        was broken before with the logits that it was broken with.
      met: dict from attack name to the number of images that it was run on.
    """

    logits: dict
    met: dict


def plan_attacks(attacks, attack, exit_names, num_classes):
    """The attacks that a word or a list means for a network.

    Args:
      attacks: a name in `SUITES`, or attacks' names separated by commas; "{exit}" stands for every exit.
      attack: the run's evaluation attack, an `AttackConfig`.
      exit_names: "branch_1" … "main".
      num_classes: classes of the network.

    Returns:
      The `Plan`. Suites leave out what cannot be run; lists may not name it.

    Raises:
      ConfigError: an unknown name, or a listed attack that cannot be run.
    """
    suite = SUITES.get(attacks) or Suite(tuple(name.strip() for name in attacks.split(",")))
    names = [name.replace("{exit}", exit_name) for name in suite.attacks for exit_name in _exits_in(name, exit_names)]
    planned, left_out = [], []
    for name in dict.fromkeys(names):
        search = _search(name, exit_names)
        obstacle = search.obstacle(attack, num_classes)
        if obstacle is None:
            on_survivors = suite.in_turns and bool(planned)
            planned.append(NamedAttack(name, name.rpartition("/")[2], search.applied(attack), on_survivors))
        elif attacks in SUITES:
            left_out.append(f"{name} is not run: {obstacle}")
        else:
            raise ConfigError(f"attacks: {name!r} cannot be run: {obstacle}")
    return Plan(attacks if attacks in SUITES else "", tuple(planned), tuple(left_out))


def depends_on_rule(form, exit_names):
    """Whether a form's images depend on the exit rule that is evaluated."""
    return form == SLOWDOWN or form in policy_form_names(exit_names)


def _exits_in(name, exit_names):
    return exit_names if "{exit}" in name else ("",)


def _search(name, exit_names):
    prefix, slash, form = name.rpartition("/")
    forms = (*form_names(exit_names), *policy_form_names(exit_names), SLOWDOWN)
    if form not in forms or prefix not in SEARCHES or (slash and not prefix):
        raise ConfigError(
            f"attacks: expected {', '.join(SUITES)} or a list of {', '.join(forms)}, alone or after one of "
            f"{', '.join(f'{search}/' for search in SEARCHES if search)}, got {name!r}"
        )
    return SEARCHES[prefix]

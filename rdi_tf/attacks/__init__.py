"""Attacks on networks with many exits. They know callables that map images to losses or logits, and nothing of models.

`forms` says what is maximised (one exit, the average of all, the worst of several candidates), `policy` adds the exit
rule and the savings, with the rules of `exit_rules`; `algorithms` says how (FGSM, PGD, WRM, APGD, Square) and `balls`
where; `losses` what a loss per exit is. Source: paper, section 3.2 and appendix D, and those named in the files.
"""

from rdi_tf.attacks.algorithms import ALGORITHMS, search, search_best
from rdi_tf.attacks.exit_rules import ExitRule
from rdi_tf.attacks.forms import ExitLosses, craft, defence_form, form_names, strongest_candidate
from rdi_tf.attacks.losses import cross_entropy, divergence, loss_function
from rdi_tf.attacks.policy import SLOWDOWN, policy_form_names

__all__ = [
    "ALGORITHMS",
    "SLOWDOWN",
    "ExitLosses",
    "ExitRule",
    "craft",
    "cross_entropy",
    "defence_form",
    "divergence",
    "form_names",
    "loss_function",
    "policy_form_names",
    "search",
    "search_best",
    "strongest_candidate",
]

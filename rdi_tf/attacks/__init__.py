"""Attacks on networks with many exits. They know callables that map images to losses, and nothing of models.

`forms` says what is maximised (one exit, the average of all, the worst of several candidates), `algorithms` how
(FGSM, PGD, WRM), `losses` what a loss per exit is. Source: paper, section 3.2 and appendix D.
"""

from rdi_tf.attacks.algorithms import ALGORITHMS, search
from rdi_tf.attacks.forms import ExitLosses, craft, defence_form, form_names, strongest_candidate
from rdi_tf.attacks.losses import cross_entropy

__all__ = [
    "ALGORITHMS",
    "ExitLosses",
    "craft",
    "cross_entropy",
    "defence_form",
    "form_names",
    "search",
    "strongest_candidate",
]

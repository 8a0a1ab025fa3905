"""Suites as data: what they expand to, what they leave out, and what lists may name."""

import pytest

from rdi_tf.attacks.losses import LOSSES
from rdi_tf.config import ALGORITHMS, AttackConfig, Config
from rdi_tf.errors import ConfigError
from rdi_tf.evaluation.suites import SEARCHES, SUITES, Search, depends_on_rule, plan_attacks

EXITS = ("branch_1", "branch_2", "main")
ATTACK = AttackConfig(epsilon=0.3, step_size=0.01, steps=40)


def plan(attacks, attack=ATTACK, classes=10):
    return plan_attacks(attacks, attack, EXITS, classes)


def names(attacks, **arguments):
    return tuple(attack.name for attack in plan(attacks, **arguments).attacks)


def test_the_papers_suite_is_its_table_3_by_the_runs_own_attack():
    assert names("paper") == (*EXITS, "average", "max_average")
    assert names("all") == (*names("paper"), "random")
    assert names("none") == ()
    assert {attack.search for attack in plan("all").attacks} == {ATTACK}
    assert not any(attack.on_survivors for attack in plan("all").attacks)


def test_lists_name_forms_alone_or_after_a_search():
    found = plan("main, apgd-dlr-t/main,rerouted,main, pgd-r5/{exit}")
    assert [attack.name for attack in found.attacks] == [
        *("main", "apgd-dlr-t/main", "rerouted"),
        *(f"pgd-r5/{name}" for name in EXITS),
    ]
    assert [attack.form for attack in found.attacks][:3] == ["main", "main", "rerouted"]
    assert found.name == "" and not any(attack.on_survivors for attack in found.attacks)


def test_the_strong_suite_takes_turns_and_has_what_a_reviewer_asks_for():
    found = plan("strong").attacks
    assert [attack.on_survivors for attack in found] == [False] + [True] * (len(found) - 1)
    searches = [attack.search for attack in found]
    assert {search.algorithm for search in searches} == {"pgd", "apgd", "square"}
    assert {search.loss for search in searches} == {"cross_entropy", "margin", "dlr_targeted"}
    assert any(search.restarts > 1 for search in searches)
    forms = {attack.form for attack in found}
    assert {*EXITS, "average", "rerouted", *(f"policy_{name}" for name in EXITS)} == forms
    assert found[-1].search.algorithm == "square"  # so that the check "black box" sees what all others left


def test_searches_keep_the_ball_and_scale_their_steps_with_it():
    attack = AttackConfig(epsilon=8 / 255, step_size=2 / 255, norm="l2", steps=3)
    for name, search in SEARCHES.items():
        applied = search.applied(attack)
        assert (applied.epsilon, applied.norm) == (attack.epsilon, "l2")
        assert applied.algorithm in ALGORITHMS and applied.loss in LOSSES, name
    assert SEARCHES["pgd-r5"].applied(attack).step_size == pytest.approx(0.8 / 255)
    assert SEARCHES["pgd-r5"].applied(attack).restarts == 5
    assert SEARCHES[""].applied(attack) == attack
    assert Search({"steps": 7}).applied(attack).steps == 7


@pytest.mark.parametrize("suite", SUITES)
def test_suites_hold_searches_that_a_configuration_accepts(suite):
    for attack in plan(suite).attacks:
        Config(evaluation=attack.search)


def test_what_a_ball_or_network_does_not_admit_is_left_out_and_said():
    found = plan("strong", attack=AttackConfig(epsilon=0.5, norm="l2"), classes=3)
    assert not any(attack.search.algorithm == "square" for attack in found.attacks)
    assert not any(attack.search.loss == "dlr_targeted" for attack in found.attacks)
    assert "square/rerouted is not run: it does not search l2 balls" in found.left_out
    assert "apgd-dlr-t/main is not run: it needs 4 classes, the network has 3" in found.left_out
    with pytest.raises(ConfigError, match="square/rerouted.* cannot be run: it does not search l2 balls"):
        plan("main,square/rerouted", attack=AttackConfig(norm="l2"))


def test_a_weight_of_the_loss_is_no_radius():
    wrm = AttackConfig(algorithm="wrm", epsilon=50.0)
    found = plan("strong", attack=wrm)
    assert [attack.name for attack in found.attacks] == ["average"]
    assert "apgd-ce/average is not run: wrm's epsilon weighs its loss and is no radius" in found.left_out
    with pytest.raises(ConfigError, match="pgd-10/main.* cannot be run: wrm's epsilon weighs its loss"):
        plan("pgd-10/main", attack=wrm)


@pytest.mark.parametrize("name", ["branch_7", "strong,main", "best/main", "/main", "", "apgd-ce/", "policy_branch_7"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ConfigError, match="attacks: expected paper, all, .* got "):
        plan(name)


def test_which_forms_depend_on_the_rule():
    assert [form for form in (*EXITS, "average", "max_average", "random") if depends_on_rule(form, EXITS)] == []
    assert all(depends_on_rule(form, EXITS) for form in ("rerouted", "policy_branch_1", "policy_main", "slowdown"))

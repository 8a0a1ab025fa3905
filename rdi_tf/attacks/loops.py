"""What all attack algorithms share: loops in the graph, gradients, and the memory of the best candidate.

An algorithm maximises an objective: a callable from images to `(loss, merit)`, each (batch,). The loss gives the
direction; the merit says which of the candidates on the way an attacker would keep, and is None where nobody asks.
What is best so far is the pair `(images, merits)`, or the empty tuple where nothing is kept.
"""

import tensorflow as tf

from rdi_tf.seeds import folded


def repeat(first, stop, body, state):
    """`for step in range(first, stop): state = body(step, *state)` as one graph loop.

    Written out because Keras traces a train_step without AutoGraph. Random layers of the network that is attacked draw
    anew in each step.
    """

    def step_body(step, *state):
        with folded(step):
            return (step + 1, *body(step, *state))

    _, *state = tf.while_loop(lambda step, *_: step < stop, step_body, (first, *state), parallel_iterations=1)
    return state


def with_gradient(objective, images):
    """Loss and merit of an objective, and the gradient of the loss with respect to the images."""
    # Only the images are watched: gradients of the weights are neither wanted nor computed.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss, merit = objective(images)
        total = tf.reduce_sum(loss)
    # A network that rounds its images has no path for a gradient: zero, as the attack then goes nowhere.
    return loss, merit, tape.gradient(total, images, unconnected_gradients="zero")


def keep_better(best, candidates, merit):
    """The best so far, with those candidates put in that have more merit; an empty one stays empty."""
    if not best:
        return ()
    kept, kept_merit = best
    better = merit > kept_merit
    return choose(better, candidates, kept), tf.where(better, merit, kept_merit)


def keep_last(objective, candidates, best):
    """As `keep_better` for candidates whose merit is not known yet; costs nothing where nothing is kept."""
    return keep_better(best, candidates, objective(candidates)[1]) if best else ()


def choose(condition, images, others):
    """`images` where the condition (batch,) holds, else `others`."""
    return tf.where(condition[:, tf.newaxis, tf.newaxis, tf.newaxis], images, others)

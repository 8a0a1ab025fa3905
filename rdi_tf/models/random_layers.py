"""Dropout whose masks are a function of a seed, so that a resumed run drops what an uninterrupted one would have.

Keras draws masks from a counter that no checkpoint holds. The layers stay Keras' own (files saved before still load,
and other tools know them); only where their random numbers come from is changed, in networks that are in memory.
"""

import zlib

import tensorflow as tf

from rdi_tf._keras import keras
from rdi_tf.seeds import current_seed, fold

_RandomGenerator = keras.src.backend.RandomGenerator


def seed_random_layers(network):
    """Let every random layer of a network (dropout, noise, augmentation) draw from `rdi_tf.seeds`' scope.

    Outside of scopes they draw as Keras made them. In a scope the mask is a function of its seed and the layer's name:
    the same in the whole network and in the part of it that ends at one exit.

    Args:
      network: tf_keras model; changed in place. Layers inside layers are found, too.
    """
    for layer in network.submodules:
        generator = getattr(layer, "_random_generator", None)
        if isinstance(generator, _RandomGenerator) and not isinstance(generator, _ScopedGenerator):
            # Not by setattr, which would track the generator: it holds nothing that a checkpoint needs.
            object.__setattr__(layer, "_random_generator", _ScopedGenerator(generator, layer.name))


class _ScopedGenerator(_RandomGenerator):
    """Keras' generator outside of scopes, a stateless one inside."""

    def __init__(self, own, name):
        super().__init__(own._seed, own._rng_type)
        self._own = own
        self._number = zlib.crc32(name.encode("utf-8")) & 0x7FFFFFFF

    def dropout(self, inputs, rate, noise_shape=None):
        if current_seed() is None:
            return self._own.dropout(inputs, rate, noise_shape)
        return tf.nn.experimental.stateless_dropout(inputs, rate, self._scoped_seed(), noise_shape=noise_shape)

    def random_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None):
        if current_seed() is None:
            return self._own.random_normal(shape, mean, stddev, dtype, nonce)
        return tf.random.stateless_normal(shape, self._scoped_seed(), mean, stddev, dtype or keras.backend.floatx())

    def random_uniform(self, shape, minval=0.0, maxval=None, dtype=None, nonce=None):
        if current_seed() is None:
            return self._own.random_uniform(shape, minval, maxval, dtype, nonce)
        dtype = dtype or keras.backend.floatx()
        return tf.random.stateless_uniform(shape, self._scoped_seed(), minval, 1.0 if maxval is None else maxval, dtype)

    def make_seed_for_stateless_op(self):
        # Asked for by layers that draw by themselves. One that asks twice, as a flip in both directions, gets the same.
        return self._own.make_seed_for_stateless_op() if current_seed() is None else self._scoped_seed()

    def make_legacy_seed(self):
        return self._own.make_legacy_seed()

    def _scoped_seed(self):
        return fold(current_seed(), self._number)

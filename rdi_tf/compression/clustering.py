"""Weight clustering: each layer's weights share few values, which are fine-tuned together.

tfmot finds the values (k-means++ on each layer's weights) and which weight has which. After every training step the
weights of a cluster become their mean again: as the optimiser is linear in the gradient, that is gradient descent on
the shared values, with the mean of the gradients of the weights that share one. So the network is a plain one at any
time, and nothing of tfmot stands in it while it is attacked.

Source: Han et al., "Deep Compression" (ICLR 2016), section 3.
"""

import tensorflow as tf
import tensorflow_model_optimization as tfmot

from rdi_tf.errors import ConfigError
from rdi_tf.network import RDINet

_CLUSTERED = ("Conv2D", "Dense")
_START = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS


class ClusteredRDINet(RDINet):
    """An RDINet in training whose layers have few different weights each; its file is a plain RDINet's."""

    def __init__(self, network, config):
        """Prepare.

        Args:
          network: functional multi-exit network; its weights are clustered in place. Layers that have no more weights
            than clusters stay as they are.
          config: `Config`, whose `compression` says how many clusters.

        Raises:
          ConfigError: no layer has more weights than clusters.
        """
        super().__init__(network, config)
        self._clusters = config.compression.clusters
        layers = [layer for layer in network.layers if type(layer).__name__ in _CLUSTERED]
        self._kernels = [layer.kernel for layer in layers if tf.size(layer.kernel) > self._clusters]
        if not self._kernels:
            raise ConfigError(f"compression.clusters: {self._clusters} are more than any layer has weights")
        # Variables, so that checkpoints hold them: k-means starts at random.
        self._members = [
            tf.Variable(_members(layer, self._clusters), trainable=False)
            for layer in layers
            if tf.size(layer.kernel) > self._clusters
        ]
        self.constrain_weights()

    def constrain_weights(self):
        """Set the weights of each cluster to their mean."""
        for kernel, members in zip(self._kernels, self._members, strict=True):
            means = tf.math.unsorted_segment_mean(kernel, members, self._clusters)
            kernel.assign(tf.gather(means, members))

    def save(self, filepath, *args, **kwargs):
        """Write the network as it is, without its clusters; arguments as for `keras.Model.save`."""
        RDINet(self.network, self.config, self.thresholds, self.calibrated_on).save(filepath, *args, **kwargs)


def _members(layer, clusters):
    """Number of the cluster of each weight of a layer's kernel, int32 tensor of the kernel's shape."""
    wrapper = tfmot.clustering.keras.cluster_weights(layer, clusters, _START)
    wrapper.build(None)
    return tf.cast(wrapper.pulling_indices["kernel"], tf.int32)

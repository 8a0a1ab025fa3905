"""GradAlign: a loss that is linear within the ball is one that a single attack step can maximise.

Source: Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training", NeurIPS 2020, section 4.
"""

import tensorflow as tf


def misalignment(loss, images, moved):
    """Mean over the images of `1 - cos(gradient at the image, gradient at the moved image)`.

    Args:
      loss: callable, images (batch, height, width, channels) -> loss per image (batch,).
      images: float32 tensor (batch, height, width, channels).
      moved: the same images, each somewhere else in its ball.

    Returns:
      float32 scalar tensor in [0, 2], which can be differentiated with respect to the loss' weights. Images without a
      gradient count as 1.
    """
    cosines = tf.reduce_sum(_direction(loss, images) * _direction(loss, moved), axis=(1, 2, 3))
    return tf.reduce_mean(1.0 - cosines)


def _direction(loss, images):
    """The gradient of each image's loss, of length 1."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = tf.reduce_sum(loss(images))
    gradient = tape.gradient(total, images)
    # Gradients of images that are well learnt are so small that their squares underflow. The scale is a constant.
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True))
    gradient = tf.math.divide_no_nan(gradient, largest)
    squares = tf.reduce_sum(gradient * gradient, axis=(1, 2, 3), keepdims=True)
    # At least 1, but where there is no gradient at all; there, the square root would have no derivative.
    return gradient * tf.math.rsqrt(tf.where(squares > 0, squares, tf.ones_like(squares)))

"""The CTC loss of plates, the blank last: TensorFlow's own there, elsewhere from operations that every backend of Keras has.

Keras's own loss takes no other blank than 0, and on JAX wants optax. The tests hold both of these to torch's.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from hyperlpr_example.alphabet import BLANK, CLASSES

_IMPOSSIBLE = -1e30  # a log probability; not -inf, because the gradient of a sum of them would not be a number


def ctc_loss(classes: Any, scores: Any) -> Any:
    """-log P(plate) / length for each plate, as Keras takes a loss. Scores (N, T, 84) in float32.

    Classes (N, L) end with BLANK where a plate is shorter.
    """
    classes = ops.cast(classes, "int32")
    lengths = ops.sum(ops.cast(classes != BLANK, "int32"), axis=1)
    of_backend = _tensorflows if keras.backend.backend() == "tensorflow" else exact_ctc_loss
    cost = of_backend(scores, classes, lengths)
    return cost / ops.cast(lengths, cost.dtype)


def exact_ctc_loss(scores: Any, classes: Any, lengths: Any) -> Any:
    """The forward recursion of Graves et al. (2006) over blank, c1, blank, c2, … blank, in log space, for the whole batch.

    Emissions are picked with a product, because the gradient of an index adds up in any order on a GPU.
    """
    blanks = ops.full_like(classes, BLANK)
    places = ops.reshape(ops.stack([blanks, classes], axis=2), (-1, 2 * classes.shape[1]))
    places = ops.concatenate([places, blanks[:, :1]], axis=1)
    emitted = ops.log_softmax(scores) @ ops.transpose(ops.one_hot(places, CLASSES), (0, 2, 1))
    before = ops.pad(places[:, :-2], ((0, 0), (2, 0)), constant_values=BLANK)
    may_skip = ops.logical_and(places != before, places != BLANK)  # from the character before, over the blank
    not_skipped = ops.where(may_skip, 0.0, _IMPOSSIBLE)
    place = ops.arange(places.shape[1])

    def one_step_on(so_far: Any, emitted_now: Any) -> tuple[Any, None]:
        one_on = ops.pad(so_far[:, :-1], ((0, 0), (1, 0)), constant_values=_IMPOSSIBLE)
        two_on = ops.pad(so_far[:, :-2], ((0, 0), (2, 0)), constant_values=_IMPOSSIBLE) + not_skipped
        return emitted_now + ops.logsumexp(ops.stack([so_far, one_on, two_on]), axis=0), None

    begin = emitted[:, 0] + ops.where(place < 2, 0.0, _IMPOSSIBLE)
    # A loop of the backend's own, because XLA works a written-out one off with three times the work in each further step.
    so_far, _ = ops.scan(one_step_on, begin, ops.transpose(emitted, (1, 0, 2))[1:])
    last = 2 * lengths[:, None]
    ends = ops.logical_or(place == last, place == last - 1)
    return -ops.logsumexp(ops.where(ends, so_far, _IMPOSSIBLE), axis=1)


def _tensorflows(scores: Any, classes: Any, lengths: Any) -> Any:
    import tensorflow as tf

    steps = tf.fill(tf.shape(lengths), scores.shape[1])
    return tf.nn.ctc_loss(classes, scores, lengths, steps, logits_time_major=False, blank_index=BLANK)

"""Models with a `train_step` of their own, right and with a fault, on every backend."""

from __future__ import annotations

from typing import Any

from tests.builders.pipelines import Passing, plain
from tests.stack import BACKEND, IS_KERAS3, keras


class OwnStep:
    """Mixin: a `train_step` of one's own, right where `inference` is False.

    With `inference=True` it is the mistake of calling `self(x)` without `training=True`.
    """

    inference = False

    def in_step(self, x: Any) -> Any:
        return self(x) if self.inference else self(x, training=True)

    if BACKEND == "jax":

        def train_step(self, state: Any, data: Any) -> Any:
            import jax

            trainable, frozen, optimizer, metrics = state
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            more = {} if self.inference else {"training": True}

            def loss_of(trainable: Any, frozen: Any) -> Any:
                y_pred, frozen = self.stateless_call(trainable, frozen, x, **more)
                return self.compute_loss(x, y, y_pred), frozen

            (loss, frozen), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable, frozen)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            return {"loss": loss}, (trainable, frozen, optimizer, metrics)

    elif BACKEND == "torch":

        def train_step(self, data: Any) -> Any:
            import torch

            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            self.zero_grad()
            loss = self.compute_loss(x=x, y=y, y_pred=self.in_step(x))
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply(
                    [v.value.grad for v in self.trainable_weights], self.trainable_weights
                )
            return {"loss": loss.detach()}

    else:

        def train_step(self, data: Any) -> Any:
            import tensorflow as tf

            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                y_pred = self.in_step(x)
                if IS_KERAS3:
                    loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
                else:
                    loss = self.compiled_loss(y, y_pred)
            grads = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
            return {"loss": loss}


class OwnStepModel(OwnStep, keras.Model):
    """A functional model with a step of its own."""


class InferenceStepModel(OwnStep, keras.Model):
    """A functional model whose own step forgets `training=True`."""

    inference = True


class OwnStepSubclass(OwnStep, Passing):
    """A subclassed model with a step of its own."""


class InferenceStepSubclass(OwnStep, Passing):
    inference = True


def own_step(cls: Any, **settings: Any) -> Any:
    """`plain` as an instance of another model class."""
    model = plain(**settings)
    return cls(model.inputs, model.outputs, name="plain")

"""Private names of callbacks, steps and random states mean what this package takes them for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_bnguard.backends.registry import backend_for
from tests.builders.models import adam, backbone, compiled, data, sgd, transfer
from tests.builders.values import as_array
from tests.contract.models import KERAS2
from tests.contract.private_names import private
from tests.stack import BACKEND, IS_KERAS3, keras


@private("_is_default", on=IS_KERAS3)
def test_keras_3_marks_hooks_that_are_not_overridden():
    assert keras.callbacks.Callback.on_train_batch_end._is_default is True

    class Own(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    hooks = keras.callbacks.CallbackList([keras.callbacks.Callback()])
    # TensorFlow dispatches batches asynchronously by itself, so Keras does not.
    assert hooks._async_train is (BACKEND != "tensorflow")
    assert keras.callbacks.CallbackList([Own()])._async_train is False


@private("_supports_tf_logs _chief_worker_only", on=KERAS2)
def test_keras_2_asks_callbacks_these_private_things():
    assert keras.callbacks.Callback()._supports_tf_logs is False
    assert keras.callbacks.Callback()._chief_worker_only is None
    assert callable(keras.callbacks.Callback()._implements_train_batch_hooks)


@private("_training_metadata_path _weights_path", on=IS_KERAS3)
@private("_prev_weights_path _prev_training_metadata_path", on=IS_KERAS3)
def test_backup_and_restore_keeps_its_files_here(tmp_path):
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    assert str(backup._training_metadata_path).endswith(".json")
    assert str(backup._weights_path).endswith(".weights.h5")
    if hasattr(backup, "double_checkpoint"):
        assert str(backup._prev_weights_path).endswith(".bkp")
        assert str(backup._prev_training_metadata_path).endswith(".bkp")


@private("_swap_variables", on=IS_KERAS3)
def test_swap_ema_weights_swaps_by_this_method():
    swap = keras.callbacks.SwapEMAWeights()
    model = compiled(transfer(), sgd(use_ema=True))
    model.fit(*data(8), epochs=1, verbose=0)
    swap.set_model(model)
    kept = model.optimizer._model_variables_moving_average[0]
    kept.assign(kept * 0 + 3)
    swap._swap_variables()
    assert float(np.array(as_array(model.trainable_variables[0])).mean()) == 3.0


@private("_initial_epoch", on=IS_KERAS3)
def test_a_model_goes_on_from_the_epoch_of_its_backup():
    model = compiled(transfer())
    assert model._initial_epoch is None
    model._initial_epoch = 2
    assert len(model.fit(*data(8), epochs=3, verbose=0).history["loss"]) == 1


@private("_loss_tracker", on=IS_KERAS3)
def test_the_mean_of_the_loss_is_kept_by_this_metric():
    model = compiled(transfer())
    model.train_on_batch(*data(8))
    assert model._loss_tracker.name == "loss"
    assert model._loss_tracker in model.metrics


@private("_create_all_weights", on=KERAS2)
def test_legacy_optimizers_create_their_state_on_request():
    optimizer = keras.optimizers.legacy.Adam()
    model = backbone()
    optimizer._create_all_weights(model.trainable_variables)
    assert optimizer.get_slot(model.trainable_variables[0], "m") is not None


@private("_create_hypers _hypers_created _hyper", on=KERAS2)
def test_legacy_optimizers_make_a_variable_of_a_number_that_was_set_after_a_schedule():
    optimizer = keras.optimizers.legacy.SGD(keras.optimizers.schedules.ExponentialDecay(1, 1, 0.5))
    optimizer._create_hypers()
    assert optimizer._hypers_created
    assert "learning_rate" in optimizer._hyper
    optimizer.learning_rate = 0.25
    optimizer._hypers_created = False
    optimizer._create_hypers()
    optimizer.learning_rate.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5


@private("_compile_config")
def test_a_saved_model_is_compiled_again_with_what_is_in_this_dict():
    model = compiled(transfer())
    model._compile_config.config["optimizer"] = adam()
    again = model.get_compile_config()["optimizer"]
    assert again["class_name"] == "Adam"


@private("_iterations")
def test_the_step_count_is_behind_a_private_name():
    assert hasattr(sgd(), "_iterations") or IS_KERAS3


# ------------------------------------------------------------------- what a step moves
@private("_compile_metrics _compile_loss", on=IS_KERAS3)
def test_keras_3_builds_what_compile_was_given_at_the_first_step():
    model = transfer()
    model.compile(sgd(), "mse", metrics=["mae"])
    parts = (model._compile_metrics, model._compile_loss)
    assert [part.built for part in parts] == [False, False]
    model.train_on_batch(*data(8))
    assert [part.built for part in parts] == [True, True]


@private("_SEED_GENERATOR", on=KERAS2)
def test_keras_2_gives_operations_seeds_of_a_generator_once_a_seed_was_set():
    import importlib

    backend = backend_for(transfer())
    module = importlib.import_module(f"{backend.package}.src.backend")
    keras.utils.set_random_seed(1)
    assert hasattr(module._SEED_GENERATOR.generator, "getstate")
    assert len(backend.values.random_states()) == 1


@private("_rng", on=BACKEND == "tensorflow")
def test_eager_operations_take_their_seeds_from_the_context():
    import tensorflow as tf
    from tensorflow.python.eager import context

    tf.random.set_seed(1)
    generator = context.context()._rng
    before = generator.getstate()
    tf.random.uniform((2,))
    assert generator.getstate() != before


# ------------------------------------------------------------------------- JAX
@private("_jax_state _jax_state_synced", on=BACKEND == "jax")
def test_jax_keeps_the_state_of_an_epoch_outside_the_model():
    seen = []

    class Observer(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            model = self._model
            seen.append((bool(model._jax_state), model._jax_state_synced))
            model.jax_state_sync()
            seen.append((bool(model._jax_state), model._jax_state_synced))

    compiled(transfer()).fit(*data(8), verbose=0, callbacks=[Observer()])
    assert seen[0] == (True, False)
    assert seen[1][1] is True


RECORDS_SHARDINGS = BACKEND == "jax" and hasattr(
    keras.Model, "_record_training_state_sharding_spec"
)
"""Keras 3.3 to 3.11."""


@private("_record_training_state_sharding_spec", on=RECORDS_SHARDINGS)
def test_keras_on_jax_records_the_placement_of_all_values_of_a_step_once_per_fit():
    model = compiled(transfer())
    model.fit(*data(8), verbose=0)
    model.get_layer("head_bn").trainable = False
    model._record_training_state_sharding_spec()
    assert len(model._trainable_variable_shardings) == len(model.trainable_variables)


@private("filtered_tb")
def test_keras_calls_fit_in_a_frame_that_deletes_this_variable_when_fit_is_left():
    found = []

    class FrameOfFit(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            frame = sys._getframe()
            while frame.f_code.co_name != "fit":
                frame = frame.f_back
            found.append(frame.f_back)
            assert found[0].f_locals["filtered_tb"] is None

        def on_train_end(self, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(transfer()).fit(*data(8), epochs=1, verbose=0, callbacks=[FrameOfFit()])
    assert "filtered_tb" not in found[0].f_locals


@private("_steps_per_execution", on=KERAS2)
@private("_unique_id", on=BACKEND == "tensorflow")
def test_variables_that_compile_makes_are_counted():
    first, second = compiled(transfer()), compiled(transfer())
    flags = backend_for(first).flags
    numbers = [flags.compile_number(model) for model in (first, second)]
    assert numbers[0] < numbers[1]
    assert flags.was_compiled_after(second, first)
    compiled(first)
    assert flags.compile_number(first) > numbers[1]
    assert flags.was_compiled_after(first, second)

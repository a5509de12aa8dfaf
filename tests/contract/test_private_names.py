"""Every private name of a Keras that this package uses is there and means what we think.

One test a name; each fails loudly when a Keras renames it. The last test reads the source of
`backends/` and fails when it uses a private name that no test here names.
"""

from __future__ import annotations

import ast
import weakref
from pathlib import Path

import numpy as np

import keras_bnguard.backends
from keras_bnguard.backends.registry import backend_for
from tests.builders.models import BN, adam, as_array, backbone, data, layers, sgd, transfer
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

BACKENDS = Path(keras_bnguard.backends.__file__).parent
KERAS2 = not IS_KERAS3
TESTED = set()


def private(name, on=True):
    """Marks a test as the one of some private names; there is none where they are not used."""
    TESTED.update(name.split())
    return (lambda test: test) if on else (lambda test: None)


def compiled(model=None, optimizer=None):
    model = model or transfer()
    model.compile(optimizer or sgd(), "mse")
    return model


# ------------------------------------------------------------------- structure
@private("_layers", on=IS_KERAS3)
def test_layers_holds_the_direct_children_of_a_layer():
    model = transfer()
    assert {layer.name for layer in model._layers} >= {"base", "head_bn", "out"}
    assert [layer.name for layer in layers.TimeDistributed(BN(name="x"))._layers] == ["x"]


@private("_flatten_layers")
def test_flatten_layers_walks_below_and_can_stop_at_the_children():
    model = transfer()
    names = {layer.name for layer in model._flatten_layers()}
    assert {"net", "base", "bn", "head_bn"} <= names
    if KERAS2:
        direct = model._flatten_layers(recursive=False, include_self=False)
        assert "bn" not in {layer.name for layer in direct}


@private("_nodes_by_depth")
def test_nodes_by_depth_gives_nodes_with_their_layer_and_arguments():
    model = transfer(training=False)
    nodes = [
        n for d in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[d]
    ]
    calls = [n for n in nodes if not n.is_input]
    if KERAS2:
        assert calls[0].layer.name == "base"
        assert calls[0].call_kwargs["training"] is False
        assert isinstance(calls[0].call_args, tuple)
    else:
        assert calls[0].operation.name == "base"
        assert calls[0].arguments.kwargs["training"] is False
        assert isinstance(calls[0].arguments.args, tuple)


@private("_functional", on=IS_KERAS3)
def test_functional_is_the_graph_inside_a_sequential_model():
    model = keras.Sequential([keras.Input((3,)), BN()])
    assert model._functional._nodes_by_depth


def test_the_class_of_graph_nodes_is_the_one_that_a_call_makes():
    """Not a private name, but a place that may move: then no line of a call is known."""
    model = transfer(training=False)
    backend = backend_for(model)
    node = backend.graph.nodes(model)[0][0]
    assert type(node) is backend.graph.node_class()
    assert weakref.ref(node)() is node


# --------------------------------------------------------------------- weights
@private("_trainable_variables _non_trainable_variables", on=IS_KERAS3)
def test_own_variables_of_a_keras_3_layer():
    layer = BN()
    layer.build((None, 2))
    assert [v.name for v in layer._trainable_variables] == ["gamma", "beta"]
    assert {v.name for v in layer._non_trainable_variables} >= {"moving_mean", "moving_variance"}
    assert not backbone()._trainable_variables


@private("_trainable_weights _non_trainable_weights", on=KERAS2)
def test_own_variables_of_a_keras_2_layer():
    layer = BN()
    layer.build((None, 2))
    assert len(layer._trainable_weights) == 2
    assert len(layer._non_trainable_weights) == 2
    assert not backbone()._trainable_weights


# ----------------------------------------------------------------------- flags
@private("_trainable")
def test_trainable_is_the_own_flag_of_one_layer():
    model = backbone()
    model._trainable = False
    assert not model.trainable
    assert model.get_layer("bn").trainable
    model.get_layer("bn").trainable = False
    assert model.get_layer("bn")._trainable is False


@private("_compiled_trainable_state _get_trainable_state", on=KERAS2)
def test_compiled_trainable_state_keeps_the_flags_of_compile():
    model = compiled()
    model.get_layer("base").trainable = False
    state = model._compiled_trainable_state
    assert isinstance(state, weakref.WeakKeyDictionary)
    assert state[model.get_layer("base")] is True
    assert model._get_trainable_state()[model.get_layer("base")] is False


@private("_model _should_set_trainable _current_trainable_state _set_trainable_state", on=KERAS2)
def test_fit_keeps_the_users_flags_aside_in_an_object_with_these_attributes():
    import gc

    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for thing in gc.get_objects():
                if type(thing).__name__ != "RespectCompiledTrainableState":
                    continue
                if thing._model is self.model and thing._should_set_trainable:
                    seen.append(thing._current_trainable_state)

    model = compiled()
    model.get_layer("base").trainable = False
    model.fit(*data(8), verbose=0, callbacks=[Look()])
    assert seen
    assert seen[0][model.get_layer("base")] is False
    assert callable(model._set_trainable_state)


# --------------------------------------------------------------------- context
@private("_call_context_args _call_has_training_arg", on=IS_KERAS3)
def test_a_layer_lists_the_context_arguments_its_call_takes():
    from keras.src.backend.common import global_state
    from keras.src.layers.layer import CallContext

    layer = BN(name="bn")
    assert "training" in layer._call_context_args or layer._call_has_training_arg
    seen = []

    class Look(layers.Layer):
        def call(self, x):
            context = global_state.get_global_attribute("current_call_ctx")
            seen.append((isinstance(context, CallContext), context.training))
            return x

    inputs = keras.Input((1,))
    model = keras.Model(inputs, Look()(inputs))
    model(keras.ops.zeros((1, 1)), training=True)
    assert seen[-1] == (True, True)
    CallContext(entry_layer=None).training = True
    assert global_state.get_global_attribute("current_call_ctx") is None


# ------------------------------------------------------------------ stock or not
@private("_USE_V2_BEHAVIOR", on=KERAS2)
def test_use_v2_behavior_tells_the_old_bn_from_todays():
    import tensorflow as tf

    old = tf.compat.v1.keras.layers.BatchNormalization
    if old.__module__.split(".")[0] == keras.__name__.split(".")[0]:
        assert old._USE_V2_BEHAVIOR is False
    assert BN._USE_V2_BEHAVIOR is True
    assert "BatchNormalizationBase" in [cls.__name__ for cls in BN.__mro__]


@private("_BatchNorm", on=BACKEND == "torch")
def test_batch_norm_is_the_base_of_every_torch_bn():
    import torch

    base = torch.nn.modules.batchnorm._BatchNorm
    for cls in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm):
        assert issubclass(cls, base)
    assert not issubclass(torch.nn.LayerNorm, base)


# ------------------------------------------------------------------- optimizers
@private("_index_dict _var_key _build_index_dict", on=KERAS2)
def test_keras_2_optimizers_index_their_variables():
    model = compiled(optimizer=adam())
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    assert callable(optimizer._build_index_dict)
    keys = [optimizer._var_key(v) for v in model.trainable_variables]
    assert [optimizer._index_dict[key] for key in keys] == list(range(len(keys)))


@private("_apply_weight_decay _use_weight_decay")
def test_weight_decay_is_applied_apart_from_the_step_to_the_variables_it_is_given():
    model = compiled(optimizer=keras.optimizers.SGD(1.0, weight_decay=0.5))
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    first, second = model.trainable_variables[:2]
    for variable in (first, second):
        variable.assign(variable * 0 + 2)
        assert optimizer._use_weight_decay(variable)
    optimizer._apply_weight_decay([first])
    assert first.numpy().max() == 1.0
    assert second.numpy().max() == 2.0


@private("_parallel_update_step", on=BACKEND == "torch")
def test_on_torch_one_call_updates_all_variables_at_a_rate_it_is_given():
    import torch

    model = compiled()
    model.optimizer.build(model.trainable_variables)
    variable = model.trainable_variables[0]
    variable.assign(variable * 0)
    one = keras.ops.ones(variable.shape)
    with torch.no_grad():
        model.optimizer._parallel_update_step([one], [variable], 0.25)
    assert variable.numpy().max() == -0.25


@private("_unique_id _distributed_container", on=KERAS2)
def test_a_variable_has_an_id_and_a_part_of_it_its_whole():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        whole = tf.Variable(1.0)
    part = whole.values[0]
    holder = part if hasattr(part, "_distributed_container") else part.handle
    assert holder._distributed_container() is whole
    assert isinstance(whole._unique_id, str)


@private("_resource_apply_dense _resource_apply_sparse _decayed_lr _prepare_local", on=KERAS2)
@private("_dense_apply_args _sparse_apply_args", on=KERAS2)
def test_legacy_optimizers_compute_from_their_rate_what_a_step_takes():
    import tensorflow as tf

    optimizer = keras.optimizers.legacy.SGD(0.5)
    variable = tf.Variable([2.0])
    optimizer._create_all_weights([variable])
    assert "apply_state" in optimizer._dense_apply_args
    assert "apply_state" in optimizer._sparse_apply_args
    assert callable(optimizer._resource_apply_sparse)
    assert float(optimizer._decayed_lr(tf.float32)) == 0.5
    place = (variable.device, variable.dtype.base_dtype)
    state = {place: {}}
    optimizer._prepare_local(*place, state)
    assert float(state[place]["lr_t"]) == 0.5
    state[place]["lr_t"] = tf.constant(1.0)
    optimizer._resource_apply_dense(tf.constant([1.0]), variable, apply_state=state)
    assert variable.numpy() == [1.0]


@private("_optimizer", on=STACK == "k2")
def test_wrapping_optimizers_of_tensorflow_addons_keep_the_inner_one_here():
    import tensorflow_addons as tfa

    inner = keras.optimizers.legacy.SGD(0.5)
    assert tfa.optimizers.Lookahead(inner)._optimizer is inner
    assert tfa.optimizers.MovingAverage(inner)._optimizer is inner


@private("_loss_scale _current_loss_scale _counter dynamic_scale", on=KERAS2)
def test_keras_2_loss_scale_lives_here():
    optimizer = keras.mixed_precision.LossScaleOptimizer(sgd())
    scale = optimizer._loss_scale
    assert float(scale._current_loss_scale) > 1
    assert int(scale._counter) == 0


@private("_variables", on=IS_KERAS3)
def test_keras_3_optimizers_keep_slots_by_the_place_of_their_variable():
    model = compiled(optimizer=adam())
    model.optimizer.build(model.trainable_variables)
    assert [id(v) for v in model.optimizer._trainable_variables] == [
        id(v) for v in model.trainable_variables
    ]
    assert len(model.optimizer._momentums) == len(model.trainable_variables)
    assert len(model.optimizer._variables) > len(model.trainable_variables)
    scaled = keras.optimizers.LossScaleOptimizer(sgd())
    scaled.build(model.trainable_variables)
    assert float(scaled.dynamic_scale.numpy() if BACKEND != "torch" else scaled.dynamic_scale) > 1
    assert scaled.step_counter.shape == ()


@private("_model_variables_moving_average")
def test_the_moving_average_of_weights_is_a_list_by_place():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    model = backbone()
    optimizer.build(model.trainable_variables)
    assert len(optimizer._model_variables_moving_average) == len(model.trainable_variables)


@private("_exclude_from_weight_decay _exclude_from_weight_decay_pattern")
@private("_exclude_from_weight_decay_names")
def test_what_is_left_out_of_weight_decay_is_kept_here():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    known = vars(optimizer)
    names = [n for n in known if n.startswith("_exclude_from_weight_decay")]
    assert set(names) & TESTED
    assert any("gamma" in str(known[name]) for name in names)


@private("_keras_mask")
def test_keras_mask_is_on_a_symbolic_tensor_while_a_layer_hands_it_on():
    inputs = keras.Input((6, 4))
    masked = layers.Masking()(inputs)
    assert getattr(inputs, "_keras_mask", None) is None
    assert layers.ReLU()(masked)._keras_mask is not None


@private("_steps_per_execution", on=KERAS2)
def test_steps_per_execution_is_a_variable():
    model = transfer()
    model.compile(sgd(), "mse", steps_per_execution=3)
    assert int(model._steps_per_execution.numpy()) == 3


@private("_use_weight_decay")
def test_use_weight_decay_says_which_variables_decay():
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    norm = BN(name="decays")
    norm.build((None, 2))
    assert optimizer._use_weight_decay(norm.beta)
    assert not optimizer._use_weight_decay(norm.gamma)


@private("_callable_losses", on=KERAS2)
def test_callable_losses_are_the_regularisers_of_a_layer():
    dense = layers.Dense(2, kernel_regularizer="l2", name="heavy")
    dense.build((None, 3))
    (term,) = dense._callable_losses
    assert float(term()) > 0


@private("_variant_tensor _VariantDataset", on=BACKEND == "tensorflow")
def test_a_dataset_is_a_variant_tensor_and_can_be_made_of_one():
    import tensorflow as tf
    from tensorflow.python.data.ops.dataset_ops import _VariantDataset

    dataset = tf.data.Dataset.range(3)
    again = _VariantDataset(dataset._variant_tensor, dataset.element_spec)
    assert [int(i) for i in again] == [0, 1, 2]


@private("_ReadVariablesOp", on=BACKEND == "tensorflow")
def test_one_op_of_tensorflow_reads_many_variables(monkeypatch):
    import tensorflow as tf

    from keras_bnguard.backends.values import tf_values

    values = [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    variables = [tf.Variable(value) for value in values]
    found = tf_values.read_at_once([v.handle for v in variables], tf.float32)
    assert [part.numpy().tolist() for part in found] == values
    monkeypatch.delattr(tf_values, "_one_by_one")
    with tf.device("CPU"):
        assert tf_values.tf_reader(variables)().tolist() == [1, 2, 3, 4, 5, 6]


@private("_learning_rate")
def test_the_learning_rate_of_an_optimizer_is_behind_a_private_name():
    assert hasattr(sgd(), "_learning_rate")


@private("_current_learning_rate", on=KERAS2)
def test_a_keras_2_schedule_writes_its_rate_here():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    assert float(keras.optimizers.SGD(schedule)._current_learning_rate) == 0.5


# ------------------------------------------------------------------- callbacks
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
    model = compiled(optimizer=sgd(use_ema=True))
    model.fit(*data(8), epochs=1, verbose=0)
    swap.set_model(model)
    kept = model.optimizer._model_variables_moving_average[0]
    kept.assign(kept * 0 + 3)
    swap._swap_variables()
    assert float(np.array(as_array(model.trainable_variables[0])).mean()) == 3.0


@private("_initial_epoch", on=IS_KERAS3)
def test_a_model_goes_on_from_the_epoch_of_its_backup():
    model = compiled()
    assert model._initial_epoch is None
    model._initial_epoch = 2
    assert len(model.fit(*data(8), epochs=3, verbose=0).history["loss"]) == 1


@private("_loss_tracker", on=IS_KERAS3)
def test_the_mean_of_the_loss_is_kept_by_this_metric():
    model = compiled()
    model.train_on_batch(*data(8))
    assert model._loss_tracker.name == "loss"
    assert model._loss_tracker in model.metrics


@private("_create_all_weights", on=KERAS2)
def test_legacy_optimizers_make_their_slots_when_asked():
    optimizer = keras.optimizers.legacy.Adam()
    model = backbone()
    optimizer._create_all_weights(model.trainable_variables)
    assert optimizer.get_slot(model.trainable_variables[0], "m") is not None


@private("_create_hypers _hypers_created", on=KERAS2)
def test_legacy_optimizers_make_a_variable_of_a_number_that_was_set_after_a_schedule():
    optimizer = keras.optimizers.legacy.SGD(keras.optimizers.schedules.ExponentialDecay(1, 1, 0.5))
    optimizer._create_hypers()
    assert optimizer._hypers_created
    optimizer.learning_rate = 0.25
    optimizer._hypers_created = False
    optimizer._create_hypers()
    optimizer.learning_rate.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5


@private("_compile_config")
def test_a_saved_model_is_compiled_again_with_what_is_in_this_dict():
    model = compiled()
    model._compile_config.config["optimizer"] = adam()
    again = model.get_compile_config()["optimizer"]
    assert again["class_name"] == "Adam"


@private("_iterations")
def test_the_step_count_is_behind_a_private_name():
    assert hasattr(sgd(), "_iterations") or IS_KERAS3


# ------------------------------------------------------------------- what a step moves
@private("_train_counter _test_counter _predict_counter", on=KERAS2)
def test_keras_2_counts_steps_in_variables_of_the_model():
    model = compiled()
    model.fit(*data(8), batch_size=4, verbose=0)
    assert int(model._train_counter.numpy()) == 2
    assert hasattr(model._test_counter, "assign")
    assert hasattr(model._predict_counter, "assign")


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

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            model = self._model
            seen.append((bool(model._jax_state), model._jax_state_synced))
            model.jax_state_sync()
            seen.append((bool(model._jax_state), model._jax_state_synced))

    compiled().fit(*data(8), verbose=0, callbacks=[Look()])
    assert seen[0] == (True, False)
    assert seen[1][1] is True


# ------------------------------------------------------------------- all of them
def own_names():
    """Private names that the package itself defines or assigns."""
    found = set()
    for path in BACKENDS.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "hook", "cls"):
                    found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def used_names():
    """Private names that `backends/` reads, writes or spells in a string."""
    found = {}
    for path in sorted(BACKENDS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Attribute):
                on_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                names = [] if on_self else [node.attr]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value] if node.value.isidentifier() else []
            for name in names:
                if name.startswith("_") and not name.startswith("__"):
                    found.setdefault(name, set()).add(path.name)
    return found


NO_KERAS_NAMES = {"_getframe", "_replace", "_batch_", "_", "_inner_in", "_in", "_outer"}
NO_KERAS_NAMES |= {"_after", "_inner"}
"""`sys._getframe` and `namedtuple._replace` are Python's; the others are parts of our names."""


def test_every_private_name_the_engines_use_has_a_test_here():
    ours = own_names()
    missing = {
        name: sorted(files)
        for name, files in used_names().items()
        if name not in TESTED | NO_KERAS_NAMES | ours and not name.startswith("_bng")
    }
    assert not missing
    assert len(used_names()) > 20


def test_no_test_here_is_left_over():
    used = set(used_names())
    spelled = "".join(p.read_text(encoding="utf-8") for p in BACKENDS.rglob("*.py"))
    assert not {name for name in TESTED if name not in used and name not in spelled}

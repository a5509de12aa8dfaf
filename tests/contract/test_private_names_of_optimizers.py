"""Private names of optimizers, losses and tf.data mean what this package takes them for."""

from __future__ import annotations

from tests.builders.models import BN, adam, backbone, compiled, layers, sgd, transfer
from tests.contract.models import KERAS2
from tests.contract.private_names import private
from tests.stack import BACKEND, IS_KERAS3, STACK, keras


@private("_index_dict _var_key _build_index_dict", on=KERAS2)
def test_keras_2_optimizers_index_their_variables():
    model = compiled(transfer(), adam())
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    assert callable(optimizer._build_index_dict)
    keys = [optimizer._var_key(v) for v in model.trainable_variables]
    assert [optimizer._index_dict[key] for key in keys] == list(range(len(keys)))


@private("_apply_weight_decay _use_weight_decay")
def test_weight_decay_is_applied_apart_from_the_step_to_the_variables_it_is_given():
    model = compiled(transfer(), keras.optimizers.SGD(1.0, weight_decay=0.5))
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
def test_on_torch_one_call_updates_all_variables_with_a_given_learning_rate():
    import torch

    model = compiled(transfer())
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
def test_legacy_optimizers_compute_the_terms_of_a_step_from_the_learning_rate():
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
def test_keras_3_optimizers_keep_state_in_lists_in_the_order_of_variables():
    model = compiled(transfer(), adam())
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
    tested = ("", "_pattern", "_names")
    assert set(names) & {f"_exclude_from_weight_decay{ending}" for ending in tested}
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
def test_use_weight_decay_returns_which_variables_decay():
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
def test_a_keras_2_schedule_writes_its_learning_rate_here():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    assert float(keras.optimizers.SGD(schedule)._current_learning_rate) == 0.5


@private("_tracker _trainable_variables_indices", on=IS_KERAS3)
def test_keras_3_optimizers_find_state_by_place_and_list_variables_by_a_tracker():
    model = transfer()
    optimizer = adam()
    optimizer.build(model.trainable_variables)
    places = list(optimizer._trainable_variables_indices.values())
    assert places == list(range(len(model.trainable_variables)))
    optimizer.mine = keras.Variable(1.0)
    _, listed = optimizer._tracker.config["variables"]
    assert listed is optimizer._variables
    assert listed[-1] is optimizer.mine


@private("_self_unconditional_checkpoint_dependencies", on=BACKEND == "tensorflow")
@private("_self_unconditional_dependency_names", on=BACKEND == "tensorflow")
def test_tensorflow_lists_what_it_saves_of_an_optimizer_by_name():
    import tensorflow as tf

    holder = tf.Module()
    holder.inner = tf.Variable(1.0)
    (reference,) = holder._self_unconditional_checkpoint_dependencies
    assert (reference.name, reference.ref) == ("inner", holder.inner)
    assert type(reference)("inner", holder.inner) == reference
    assert holder._self_unconditional_dependency_names == {"inner": holder.inner}


@private("_track_trackable", on=BACKEND == "tensorflow")
def test_tensorflow_saves_another_object_under_a_name_it_has():
    import tensorflow as tf

    holder = tf.Module()
    holder.inner = tf.Module()
    other = tf.Module()
    holder._track_trackable(other, name="inner", overwrite=True)
    assert holder._self_unconditional_dependency_names == {"inner": other}


@private("_coalesced_children", on=STACK == "tfk")
def test_tf_keras_keeps_what_a_checkpoint_of_an_optimizer_found():
    import tensorflow as tf

    optimizer = adam()
    assert not hasattr(optimizer, "_coalesced_children")
    tf.train.Checkpoint(optimizer=optimizer)
    optimizer._trackable_children()
    assert set(optimizer._coalesced_children) >= {"_variables", "_iterations"}


@private("_descriptor_cache", on=KERAS2)
def test_compiled_updates_of_keras_2_are_cached_by_optimizer():
    import inspect

    optimizer = sgd()
    step = inspect.getattr_static(type(optimizer), "_update_step_xla")
    assert optimizer._update_step_xla is step._descriptor_cache[optimizer]


@private("_slots _weights _create_all_weights _iterations", on=KERAS2)
def test_legacy_optimizers_keep_state_by_variable_and_list_it_as_it_was_made():
    import tensorflow as tf

    optimizer = keras.optimizers.legacy.SGD(0.5, momentum=0.9)
    variable = tf.Variable([2.0])
    optimizer._create_all_weights([variable])
    momentum = optimizer._slots[variable._unique_id]["momentum"]
    count, listed = optimizer._weights
    assert count is optimizer._iterations
    assert listed is momentum
    optimizer._slots, optimizer._weights = {}, [count]
    optimizer._create_all_weights([variable])
    assert optimizer._slots[variable._unique_id]["momentum"] is not momentum


@private("_u_product_counter", on=KERAS2)
def test_nadam_of_keras_2_counts_in_python():
    import tensorflow as tf

    optimizer = keras.optimizers.Nadam(0.5)
    variable = tf.Variable([2.0])
    optimizer.build([variable])
    assert optimizer._u_product_counter == 1
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert optimizer._u_product_counter == 2

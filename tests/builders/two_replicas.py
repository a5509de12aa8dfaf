"""A guarded and watched `fit` on two logical CPU devices; prints what it saw."""

from __future__ import annotations

import tests.stack as stack_under_test  # isort: skip - sets the environment first
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras_bnguard as bng
from keras_bnguard.backends.patches.attribute_patches import open_patches
from tests.builders.models import data, frozen_parent, sgd


def main() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        bng.force_inference(model := frozen_parent())
        model.compile(sgd(), "mse")
    norms = [model.get_layer("base").get_layer("bn"), model.get_layer("head_bn")]
    before = [[w.tobytes() for w in norm.get_weights()[2:]] for norm in norms]
    found = []
    guard = bng.BNGuard(on_finding=found.append, ignore="BNG401")
    model.fit(*data(64), batch_size=32, epochs=2, verbose=0, callbacks=[guard])
    after = [[w.tobytes() for w in norm.get_weights()[2:]] for norm in norms]
    print(
        f"replicas {strategy.num_replicas_in_sync}, forced {after[0] == before[0]}, "
        f"other changed {after[1] != before[1]}, patches {open_patches()}, "
        f"found {[(each.code, *each.layers) for each in found]}"
    )


if __name__ == "__main__":
    assert stack_under_test.BACKEND == "tensorflow"
    main()

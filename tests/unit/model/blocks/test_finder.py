"""Blocks of real models: whole, in order, and named as their authors named them.

The graph is Keras's, whatever the backend: the representative applications run on Keras 2 and on
Keras 3 with TensorFlow, one of them also with JAX and torch, which build them more slowly. All
others run once on `k3-tf`, those that only Keras 2 has on `tfk`; they are slow, `-m "not slow"`
leaves them out.
"""

from __future__ import annotations

import pytest

from keras_bnguard.errors import SelectorError
from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.snapshot import take_snapshot
from tests.stack import IS_KERAS3, STACK, keras

layers = keras.layers
applications = keras.applications

# name: (blocks, some of their names)
REPRESENTATIVE = {
    "ResNet50": (17, ["conv1", "conv2_block1", "conv5_block3"]),
    "ResNet50V2": (17, ["conv1", "conv2_block1", "conv5_block3"]),
    "DenseNet121": (62, ["conv1", "conv2_block1", "pool2", "conv5_block16"]),
    "EfficientNetB0": (18, ["stem", "block1a", "block2a", "block7a", "top"]),
    "EfficientNetV2B0": (23, ["stem", "block1a", "block6h", "top"]),
    "MobileNet": (14, ["conv1", "conv_dw_1", "conv_dw_13"]),
    "MobileNetV2": (19, ["Conv1", "expanded_conv", "block_1", "block_16", "Conv_1"]),
    "Xception": (14, [f"block{i}" for i in range(1, 15)]),
    "InceptionV3": (16, [f"mixed{i}" for i in range(11)]),
    "InceptionResNetV2": (49, ["mixed_5b", "block35_1", "block17_20", "block8_9", "conv_7b"]),
    "NASNetMobile": (17, ["stem", "normal_concat_0", "normal_concat_12"]),
    "VGG16": (5, [f"block{i}" for i in range(1, 6)]),
}
# Their layers have other names in Keras 2.
MORE = {"MobileNetV3Small": 13, "ConvNeXtTiny": 22}


def build(name):
    size = 96 if "ception" in name else 64
    if name.startswith(("ResNet", "VGG", "Mobile", "Eff", "Dense", "NAS", "Conv")):
        size = 32
    extra = {"include_preprocessing": False} if name.startswith("RegNet") else {}
    build_one = getattr(applications, name)
    return build_one(weights=None, include_top=False, input_shape=(size, size, 3), **extra)


def blocks_of(model, path=""):
    return find_blocks(take_snapshot(model), path)


def check(model, blocks):
    """What holds for the blocks of every functional model."""
    snapshot = take_snapshot(model)
    backend, at = snapshot.backend, dict(snapshot.layers)
    weighted = [path for path, layer in snapshot.layers if backend.graph.owns_weights(layer)]
    home = {path: i for i, block in enumerate(blocks) for path in block.paths}
    assert sorted(home) == sorted(weighted)
    assert len(home) == sum(len(block.paths) for block in blocks)
    assert len({block.name for block in blocks}) == len(blocks)
    counts = {path: backend.flags.trainable_count(layer) for path, layer in at.items()}
    for block in blocks:
        assert block.parameters == sum(counts[path] for path in block.paths) > 0
    producers, place = _wires(backend, model)
    by_layer = {id(layer): home[path] for path, layer in at.items() if path in home}
    for layer, inputs in producers:
        if backend.graph.is_norm(layer) and len(inputs) == 1 and id(inputs[0]) in by_layer:
            assert by_layer[id(layer)] == by_layer[id(inputs[0])], layer.name
    order = [min(place[id(at[p])] for p in block.paths if id(at[p]) in place) for block in blocks]
    return order


def _wires(backend, model):
    """(layer, the layers straight before it) of a flat graph, and when each is called."""
    producers, place, layer_of = [], {}, {}
    for i, (node, layer) in enumerate(backend.graph.nodes(model)):
        layer_of[id(node)] = layer
        place.setdefault(id(layer), i)
        inputs = [layer_of[id(n)] for n in backend.graph.node_inputs(node) if id(n) in layer_of]
        producers.append((layer, inputs))
    return producers, place


HERE = ["MobileNetV2"] if STACK in ("k3-jax", "k3-torch") else [*REPRESENTATIVE]
if STACK == "k2":
    # The others have the same code in tf_keras, where they are built.
    HERE = ["ResNet50", "EfficientNetB0", "EfficientNetV2B0", "MobileNetV2"]


@pytest.mark.parametrize("name", HERE)
def test_an_application_is_cut_into_the_blocks_of_its_paper(name):
    model = build(name)
    blocks = blocks_of(model)
    order = check(model, blocks)
    assert order == sorted(order)
    count, names = REPRESENTATIVE[name]
    found = [block.name for block in blocks]
    assert len(blocks) == count, found
    assert [n for n in found if n in names] == names
    if name == "NASNetMobile":
        for block in blocks[1:]:
            cell = block.name.split("concat_")[1]
            assert [path for path in block.paths if not path.endswith(f"_{cell}")] == []


@pytest.mark.parametrize("name", MORE if STACK != "k3-jax" else ["MobileNetV3Small"])
def test_so_are_those_that_each_keras_names_its_own_way(name):
    model = build(name)
    blocks = blocks_of(model)
    if name == "MobileNetV3Small":
        check(model, blocks)
    assert len(blocks) == MORE[name]


OTHERS = {
    "k3-tf": [n for n in dir(applications) if n[0].isupper() and n not in REPRESENTATIVE],
    "tfk": ["RegNetX002", "RegNetY016", "ResNetRS50"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS.get(STACK, ["VGG19"]))
def test_every_application_is_cut_sensibly(name):
    model = build(name)
    blocks = blocks_of(model)
    total = sum(block.parameters for block in blocks)
    assert len(blocks) >= 5
    assert max(len(block.paths) for block in blocks) <= 25
    assert max(block.parameters for block in blocks) < 0.5 * total
    snapshot = take_snapshot(model)
    weighted = [p for p, layer in snapshot.layers if snapshot.backend.graph.owns_weights(layer)]
    assert sorted(p for block in blocks for p in block.paths) == sorted(weighted)


def test_a_head_on_the_same_graph_is_a_block_of_its_own():
    base = build("MobileNetV2")
    x = layers.GlobalAveragePooling2D()(base.output)
    x = layers.Dense(8, name="fc")(x)
    model = keras.Model(base.input, layers.Dense(2, name="out")(x))
    blocks = blocks_of(model)
    assert len(blocks) == 21
    assert [block.name for block in blocks[-3:]] == ["Conv_1", "fc", "out"]
    assert check(model, blocks) == sorted(check(model, blocks))


def test_a_nested_backbone_is_cut_like_a_flat_one():
    base = build("MobileNetV2")
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    flat, nested = blocks_of(base), blocks_of(model)
    front = base.name + "/"
    assert [b.name for b in nested] == [*(front + b.name for b in flat), "out"]
    assert [b.paths for b in nested[:-1]] == [tuple(front + p for p in b.paths) for b in flat]
    assert blocks_of(model, base.name) == nested[:-1]


def test_a_path_that_is_not_there_is_named():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="only")])
    with pytest.raises(SelectorError, match=r"path='bakbone'.*only"):
        blocks_of(model, "bakbone")


def test_a_sequential_model_is_cut_between_layers_but_not_before_a_norm():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.BatchNormalization(name="first"),
            layers.Conv2D(4, 3, name="a"),
            layers.BatchNormalization(name="a_bn"),
            layers.ReLU(),
            layers.Conv2D(4, 3, name="b"),
            layers.ReLU(),
            layers.BatchNormalization(name="b_bn"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(name="c_bn"),
            layers.Conv2D(4, 1, name="c"),
            layers.Flatten(),
            layers.Dense(2, name="out"),
        ]
    )
    assert [block.paths for block in blocks_of(model)] == [
        ("first", "a", "a_bn"),
        ("b", "b_bn"),
        ("c_bn", "c"),
        ("out",),
    ]


def test_a_norm_after_a_merge_that_feeds_only_a_pooling_goes_with_what_is_before():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    y = layers.Conv2D(4, 1, name="res")(x)
    x = layers.add([x, y])
    x = layers.BatchNormalization(name="post_bn")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    assert [block.paths for block in blocks_of(model)] == [
        ("stem",),
        ("res", "post_bn"),
        ("out",),
    ]


def test_a_norm_whose_producer_also_feeds_a_shortcut_keeps_its_producer():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    y = layers.BatchNormalization(name="pre")(x)
    y = layers.Conv2D(4, 1, name="res")(y)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(layers.add([x, y])))
    assert [block.paths for block in blocks_of(model)] == [("stem", "pre", "res"), ("out",)]


def test_a_squeeze_excite_branch_is_not_cut():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(4, 1, name="up")(layers.Conv2D(2, 1, name="down")(s))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(layers.multiply([x, s])))
    assert [block.paths for block in blocks_of(model)] == [("stem",), ("down", "up"), ("out",)]


def conv_unit(name):
    return keras.Sequential(
        [layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()],
        name=name,
    )


def test_a_sub_model_inside_a_branch_stays_in_the_block_of_the_branch():
    inputs = keras.Input((8, 8, 4))
    x = conv_unit("stem")(inputs)
    y = conv_unit("second")(conv_unit("first")(x))
    model = keras.Model(inputs, conv_unit("last")(layers.add([x, y])))
    blocks = blocks_of(model)
    assert [len(block.paths) for block in blocks] == [2, 4, 2]
    assert all(path.split("/")[0] in ("first", "second") for path in blocks[1].paths)


def test_a_shared_backbone_with_two_inputs_is_cut_once():
    base = build("MobileNetV2")
    one, two = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    x = layers.Concatenate()([base(one), base(two)])
    model = keras.Model([one, two], layers.Dense(2, name="out")(layers.Flatten()(x)))
    blocks = blocks_of(model)
    assert len(blocks) == 20
    assert blocks[-1].paths == ("out",)


def test_two_towers_are_both_cut():
    def tower(name, width):
        inputs = x = keras.Input((width,))
        for i in range(1, 4):
            x = layers.Dense(4, name=f"{name}{i}_dense")(x)
            x = layers.BatchNormalization(name=f"{name}{i}_norm")(x)
        return inputs, x

    (one, x), (two, y) = tower("image", 3), tower("text", 5)
    model = keras.Model([one, two], layers.Dense(2, name="out")(layers.concatenate([x, y])))
    names = [block.name for block in blocks_of(model)]
    assert sorted(names) == ["image1", "image2", "image3", "out", "text1", "text2", "text3"]
    assert names[-1] == "out"
    assert [n for n in names if n.startswith("text")] == ["text1", "text2", "text3"]


def test_heads_at_several_depths_do_not_keep_the_trunk_together():
    inputs = keras.Input((8,))
    one = layers.Dense(8, name="trunk1")(inputs)
    two = layers.Dense(8, name="trunk2")(one)
    three = layers.Dense(8, name="trunk3")(two)
    outputs = [layers.Dense(2, name=f"head{i}")(x) for i, x in enumerate((one, two, three))]
    names = [block.name for block in blocks_of(keras.Model(inputs, outputs))]
    assert sorted(names) == ["head0", "head1", "head2", "trunk1", "trunk2", "trunk3"]
    assert [n for n in names if "trunk" in n] == ["trunk1", "trunk2", "trunk3"]


class Residual(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3, padding="same")
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(shape)
        super().build(shape)

    def call(self, x, training=None):
        return x + self.norm(self.conv(x), training=training)


def test_a_block_written_as_a_layer_is_a_block():
    inputs = keras.Input((8, 8, 4))
    x = Residual(name="one")(inputs)
    model = keras.Model(inputs, Residual(name="two")(x))
    blocks = blocks_of(model)
    assert [block.name for block in blocks] == ["one", "two"]
    assert [len(block.paths) for block in blocks] == [2, 2]


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(4, 3, padding="same", name="stem")
        self.stem_norm = layers.BatchNormalization(name="norm")
        self.one = Residual(name="one")
        self.two = Residual(name="two")
        self.pool = layers.GlobalAveragePooling2D()
        self.out = layers.Dense(2, name="out")

    def call(self, x, training=None):
        x = self.stem_norm(self.stem(x), training=training)
        x = self.two(self.one(x, training=training), training=training)
        return self.out(self.pool(x))


def test_a_model_without_a_graph_has_its_children_as_blocks():
    model = Subclassed()
    model(keras.ops.zeros((1, 8, 8, 3)) if IS_KERAS3 else keras.backend.zeros((1, 8, 8, 3)))
    blocks = blocks_of(model)
    assert [block.name for block in blocks] == ["stem", "one", "two", "out"]
    assert blocks[0].paths == ("stem", "norm")


def test_a_model_inside_time_distributed_is_cut_in_turn():
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Conv2D(4, 3), layers.Flatten()]
    )
    inputs = keras.Input((2, 8, 8, 3))
    x = layers.TimeDistributed(base, name="frames")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    blocks = blocks_of(model)
    assert [len(block.paths) for block in blocks] == [1, 1, 1]


def test_a_model_with_no_weights_has_no_blocks():
    model = keras.Sequential([keras.Input((8,)), layers.ReLU()])
    assert blocks_of(model) == ()


def test_frozen_layers_count_like_others():
    base = build("VGG16")
    before = blocks_of(base)
    base.trainable = False
    assert blocks_of(base) == before

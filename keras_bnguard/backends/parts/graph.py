"""How models are put together: layers, nodes of functional graphs, and the BN among them."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Dict, List, Optional, Tuple

from keras_bnguard.backends.interface import GraphInterface
from keras_bnguard.backends.parts.norms import keras_handle, named_statistics, variable_handle
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.self_test import measure_behaviour
from keras_bnguard.backends.signatures import call_parameters
from keras_bnguard.records import Behaviour

_CONVOLUTIONS = (
    "Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose "
    "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D"
)
_KEEPS_AXES = (
    "Activation ReLU LeakyReLU PReLU ELU Softmax ThresholdedReLU Dropout AlphaDropout "
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout "
    "ActivityRegularization ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
    "Cropping3D MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
    "AveragePooling3D UpSampling1D UpSampling2D UpSampling3D Add Subtract Multiply Average "
    "Maximum Minimum Concatenate BatchNormalization LayerNormalization GroupNormalization"
)

_RANDOM = (
    "Dropout AlphaDropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise "
    "GaussianDropout RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
    "RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur "
    "RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization "
    "RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth "
    "RandomZoom AugMix CutMix MixUp RandAugment Solarization"
)

_SHARE_DROPPED = "dropout rate"[-4:]


class Graph(GraphInterface):
    """What is the same in every Keras.

    Attributes:
        keras: the Keras module (`keras`, `tf_keras`, or the `keras` behind `tf.keras`).
        package: its import name.
    """

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.package = str(keras.__name__).split(".", 1)[0]
        self._training_defaults: Dict[type, bool] = {}

    @functools.cached_property
    def behaviour(self) -> Behaviour:
        """What this Keras does with `training` and `trainable`; its self-test runs once."""
        return measure_behaviour(self.keras)

    # ------------------------------------------------------------------ layers
    def is_layer(self, thing: Any) -> bool:
        """Return whether something is a layer of this Keras."""
        return isinstance(thing, self.keras.layers.Layer)

    def is_model(self, thing: Any) -> bool:
        """Return whether something is a model of this Keras."""
        return isinstance(thing, self.keras.Model)

    def all_layers(self, layer: Any) -> List[Any]:
        """Return a layer and everything inside it, each once."""
        found: Dict[int, Any] = {}
        pending = [layer]
        while pending:
            each = pending.pop()
            if id(each) not in found:
                found[id(each)] = each
                pending.extend(self.children(each))
        return list(found.values())

    def owns_weights(self, layer: Any) -> bool:
        """Return whether a layer has weights of its own, not counting layers inside it."""
        return bool(self.own_variables(layer))

    def defaults_to_training(self, layer: Any) -> bool:
        """Return whether `training=True` is the default in the `call` of a layer's class."""
        cls = type(layer)
        known = self._training_defaults.get(cls)
        if known is None:
            try:
                parameter = inspect.signature(cls.call).parameters.get("training")
            except (TypeError, ValueError, AttributeError):
                parameter = None
            known = parameter is not None and parameter.default is True
            self._training_defaults[cls] = known
        return known

    def makes_mask(self, layer: Any) -> bool:
        """Return whether a layer makes a mask from its input."""
        layers = self.keras.layers
        masks = isinstance(layer, layers.Embedding) and layer.mask_zero
        return bool(masks) or isinstance(layer, layers.Masking)

    def channels_first(self, layer: Any) -> Optional[bool]:
        """Return whether a convolution has its channels at axis 1, None for other layers."""
        if not isinstance(layer, _classes(self.keras, _CONVOLUTIONS)):
            return None
        return getattr(layer, "data_format", None) == "channels_first"

    def keeps_axes(self, layer: Any) -> bool:
        """Return whether every axis of a layer's input is the same axis of its output."""
        return isinstance(layer, _classes(self.keras, _KEEPS_AXES))

    def wraps_time(self, layer: Any) -> bool:
        """Return whether a layer is a `TimeDistributed`."""
        return isinstance(layer, self.keras.layers.TimeDistributed)

    # ------------------------------------------------------------------- nodes
    def is_functional(self, layer: Any) -> bool:
        """Return whether a layer is a graph: a functional or a built sequential model."""
        return bool(self.nodes(layer))

    def node_inputs(self, node: Any) -> List[Any]:
        """Return the nodes whose results a node takes, input nodes included."""
        return list(node.parent_nodes)

    def node_training(self, node: Any) -> Optional[bool]:
        """Return the `training=` that was written at the call of a node, None without one."""
        layer, args, kwargs = self.node_call(node)
        if isinstance(kwargs.get("training"), bool):
            return bool(kwargs["training"])
        if len(args) > 1 and isinstance(args[1], bool):
            names = [name for name in call_parameters(layer) if name != "self"]
            if len(names) > 1 and names[1] == "training":
                return bool(args[1])
        return None

    def tensors_of(self, node: Any) -> Tuple[List[Any], List[Any]]:
        """Return `(input tensors, output tensors)` of a node, symbolic."""
        return _as_list(node.input_tensors), _as_list(node.output_tensors)

    def has_mask(self, tensor: Any) -> bool:
        """Return whether a symbolic tensor carries a mask."""
        return getattr(tensor, "_keras_mask", None) is not None

    # ---------------------------------------------------------------------- BN
    def norm_classes(self) -> Tuple[type, ...]:
        """Return the classes that every BN of this Keras is an instance of."""
        return (self.keras.layers.BatchNormalization,)

    def is_norm(self, layer: Any) -> bool:
        """Return whether a layer is a BN of this Keras, or of a class derived from it."""
        return isinstance(layer, self.norm_classes())

    def handles(self, layer: Any, path: str) -> List[NormHandle]:
        """Return handles on the BN that a layer is or hides; empty for other layers.

        Args:
            layer: any layer.
            path: its path.
        """
        if self.is_norm(layer):
            return [keras_handle(layer, path, self.package)]
        return self.hidden_handles(layer, path)

    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        """Return handles on BN inside a layer that is none: found by names of variables."""
        pairs = named_statistics(self.own_variables(layer))
        return [
            variable_handle(layer, path if len(pairs) == 1 else f"{path}/{name}", found)
            for name, found in pairs.items()
        ]


def is_random(graph: Graph, layer: Any) -> bool:
    """Return whether a layer is one of Keras's own that draw random numbers in training."""
    off = getattr(layer, _SHARE_DROPPED, None) == 0
    return not off and isinstance(layer, _classes(graph.keras, _RANDOM))


@functools.cache
def _classes(keras: Any, names: str) -> Tuple[type, ...]:
    """The layer classes of these names that a Keras has."""
    found = [getattr(keras.layers, name, None) for name in names.split()]
    return tuple(cls for cls in found if isinstance(cls, type))


def _as_list(tensors: Any) -> List[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]

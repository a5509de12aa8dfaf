"""Which Keras it is, how its models are put together, and where their BN are."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.self_test import measure_behaviour
from keras_bnguard.records import NormKind, Stack

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


class Structure:
    """The identity of a Keras, and the layers of its models.

    Attributes:
        keras: the Keras module (`keras`, `tf_keras`, or the `keras` behind `tf.keras`).
        package: its import name. version: its version. backend: "tensorflow", "jax", "torch".
        stack_name: "k2", "tfk", "k3-tf", "k3-jax" or "k3-torch".
        flags: see `keras_bnguard.records.Stack.flags`.
    """

    backend = "tensorflow"
    flags = "compile"

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.package = keras.__name__.split(".", 1)[0]
        self.version = str(keras.__version__)
        self._stack: Optional[Stack] = None
        self._training_defaults: Dict[type, bool] = {}
        self._known_classes: Dict[str, Tuple[type, ...]] = {}

    # ---------------------------------------------------------------- identity
    @property
    def stack_name(self) -> str:
        raise NotImplementedError

    def stack(self) -> Stack:
        """The stack with what its self-test found; the test runs once per process."""
        if self._stack is None:
            self._stack = Stack(
                name=self.stack_name,
                package=self.package,
                version=self.version,
                backend=self.backend,
                flags=self.flags,
                behaviour=measure_behaviour(self.keras),
            )
        return self._stack

    def is_layer(self, thing: Any) -> bool:
        return isinstance(thing, self.keras.layers.Layer)

    def is_model(self, thing: Any) -> bool:
        return isinstance(thing, self.keras.Model)

    @property
    def callback_class(self) -> type:
        return self.keras.callbacks.Callback  # type: ignore[no-any-return]

    # --------------------------------------------------------------- structure
    def children(self, layer: Any) -> List[Any]:
        """The layers directly inside a layer, in the order Keras keeps them."""
        raise NotImplementedError

    def all_layers(self, layer: Any) -> List[Any]:
        """A layer and everything inside it, each once."""
        found: Dict[int, Any] = {}
        pending = [layer]
        while pending:
            each = pending.pop()
            if id(each) not in found:
                found[id(each)] = each
                pending.extend(self.children(each))
        return list(found.values())

    def is_functional(self, layer: Any) -> bool:
        """Whether a layer is a graph (functional or built sequential model) with nodes."""
        return bool(self.graph_nodes(layer))

    def graph_nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        """(node, layer it calls) of a functional or sequential model in execution order."""
        raise NotImplementedError

    def node_class(self) -> Optional[type]:
        """The class of graph nodes; None where this Keras keeps it somewhere else."""
        return None

    def node_inputs(self, node: Any) -> List[Any]:
        """The nodes whose results a graph node takes, input nodes too."""
        return list(node.parent_nodes)

    def node_training(self, node: Any) -> Optional[bool]:
        """The `training=` written at a graph call, None where none was."""
        args, kwargs = self._node_arguments(node)
        if isinstance(kwargs.get("training"), bool):
            return bool(kwargs["training"])
        if len(args) > 1 and isinstance(args[1], bool):
            names = [n for n in self._call_parameters(self._node_layer(node)) if n != "self"]
            if len(names) > 1 and names[1] == "training":
                return bool(args[1])
        return None

    def _node_arguments(self, node: Any) -> Tuple[Sequence[Any], Dict[str, Any]]:
        raise NotImplementedError

    def _node_layer(self, node: Any) -> Any:
        raise NotImplementedError

    def tensors_of(self, node: Any) -> Tuple[List[Any], List[Any]]:
        """The symbolic tensors that go into a graph node and come out of it."""
        return _listed(node.input_tensors), _listed(node.output_tensors)

    def has_mask(self, tensor: Any) -> bool:
        """Whether a symbolic tensor carries a mask."""
        return getattr(tensor, "_keras_mask", None) is not None

    def makes_mask(self, layer: Any) -> bool:
        """Whether a layer makes a mask of what it is given."""
        layers = self.keras.layers
        masks = isinstance(layer, layers.Embedding) and layer.mask_zero
        return bool(masks) or isinstance(layer, layers.Masking)

    def channels_first(self, layer: Any) -> Optional[bool]:
        """Whether a convolution puts its channels behind the batch axis, None if it is none."""
        if not isinstance(layer, self._classes(_CONVOLUTIONS)):
            return None
        return getattr(layer, "data_format", None) == "channels_first"

    def keeps_axes(self, layer: Any) -> bool:
        """Whether every axis that goes into a layer comes out as it was."""
        return isinstance(layer, self._classes(_KEEPS_AXES))

    def wraps_time(self, layer: Any) -> bool:
        return isinstance(layer, self.keras.layers.TimeDistributed)

    def _classes(self, names: str) -> Tuple[type, ...]:
        known = self._known_classes.get(names)
        if known is None:
            found = [getattr(self.keras.layers, name, None) for name in names.split()]
            known = tuple(cls for cls in found if isinstance(cls, type))
            self._known_classes[names] = known
        return known

    def replicas(self, model: Any) -> int:
        """Copies of a model that train side by side and keep BN statistics of their own."""
        strategy = getattr(model, "distribute_strategy", None)
        return int(getattr(strategy, "num_replicas_in_sync", 1) or 1)

    def steps_per_execution(self, model: Any) -> int:
        """Batches per call of the compiled step."""
        kept = getattr(model, "steps_per_execution", None)
        return int(kept) if isinstance(kept, int) else 1

    def owns_weights(self, layer: Any) -> bool:
        """Whether a layer has weights of its own, not counting layers inside it."""
        raise NotImplementedError

    def defaults_to_training(self, layer: Any) -> bool:
        """Whether the `call` of a layer's class has `training=True` as its default."""
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

    def _call_parameters(self, layer: Any) -> Dict[str, inspect.Parameter]:
        try:
            return dict(inspect.signature(layer.call).parameters)
        except (TypeError, ValueError):
            return {}

    # -------------------------------------------------------------- BN handles
    def norm_classes(self) -> Tuple[type, ...]:
        return (self.keras.layers.BatchNormalization,)

    def is_norm(self, layer: Any) -> bool:
        return isinstance(layer, self.norm_classes())

    def is_builtin(self, layer: Any) -> bool:
        """Whether the layer is Keras's own BN of today's semantics, not a subclass."""
        return bool(type(layer).__module__.split(".", 1)[0] == self.package)

    def handles(self, layer: Any, path: str) -> List[NormHandle]:
        """Handles on the BN that a layer is, or hides; empty for any other layer."""
        if self.is_norm(layer):
            return [self._keras_handle(layer, path)]
        return self.hidden_handles(layer, path)

    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        """Handles on BN a layer wraps without being one: by its variables' names."""
        pairs = named_statistics(self.own_variables(layer))
        return [
            self._variable_handle(layer, path if len(pairs) == 1 else f"{path}/{name}", found)
            for name, found in pairs.items()
        ]

    def own_variables(self, layer: Any) -> List[Any]:
        raise NotImplementedError

    def _keras_handle(self, layer: Any, path: str) -> NormHandle:
        def vectors() -> Tuple[Any, Any, Any, Any]:
            return (
                getattr(layer, "moving_mean", None),
                getattr(layer, "moving_variance", None),
                getattr(layer, "gamma", None),
                getattr(layer, "beta", None),
            )

        return NormHandle(
            path=path,
            layer=layer,
            kind=NormKind.KERAS,
            vectors=vectors,
            settings={
                "momentum": _number(getattr(layer, "momentum", None)),
                "epsilon": _number(getattr(layer, "epsilon", None)),
                "renorm": bool(getattr(layer, "renorm", False)),
                "synchronized": bool(getattr(layer, "synchronized", False))
                or "SyncBatch" in type(layer).__name__,
                "axis": _axis(getattr(layer, "axis", None)),
            },
            class_name=type(layer).__name__,
            own_flag=lambda: bool(layer.trainable),
            builtin=self.is_builtin(layer),
        )

    def _variable_handle(self, layer: Any, path: str, found: Dict[str, Any]) -> NormHandle:
        def vectors() -> Tuple[Any, Any, Any, Any]:
            return (found.get("mean"), found.get("variance"), None, None)

        return NormHandle(
            path=path,
            layer=layer,
            kind=NormKind.VARIABLES,
            vectors=vectors,
            settings={"momentum": None, "epsilon": None, "renorm": False, "synchronized": False},
            class_name=type(layer).__name__,
            own_flag=lambda: bool(layer.trainable),
            builtin=False,
        )


def _number(value: Any) -> Optional[float]:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _axis(value: Any) -> Optional[int]:
    """The one axis a BN normalises along; Keras 2 keeps a list of them once it is built."""
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return int(found[0]) if len(found) == 1 and isinstance(found[0], int) else None


def named_statistics(variables: Sequence[Any]) -> Dict[str, Dict[str, Any]]:
    """Pairs of moving mean and variance among variables, by their names, keyed by prefix."""
    found: Dict[str, Dict[str, Any]] = {}
    endings = {"moving_mean": "mean", "moving_variance": "variance"}
    for variable in variables:
        name = str(getattr(variable, "path", None) or getattr(variable, "name", ""))
        name = name.split(":", 1)[0]
        for ending, part in endings.items():
            if name.endswith(ending):
                prefix = name[: -len(ending)].strip("/_").rsplit("/", 1)[-1]
                found.setdefault(prefix or "norm", {})[part] = variable
    return {name: pair for name, pair in found.items() if len(pair) == 2}


def _listed(tensors: Any) -> List[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]

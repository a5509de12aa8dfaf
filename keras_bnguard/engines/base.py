"""The interface every adapter implements, and what is the same for all of them."""

from __future__ import annotations

import contextlib
import gc
import inspect
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.engines.handles import NormHandle
from keras_bnguard.engines.measure import measure_norm
from keras_bnguard.engines.optimizers import strategy_scope
from keras_bnguard.engines.probing import ProbeMath
from keras_bnguard.engines.selftest import keras_tensor, measure_behaviour
from keras_bnguard.records import NormBehaviour, NormState, OptimizerFacts, Stack


class Engine:
    """What the stages may ask of a Keras. Subclasses fill in what differs.

    Attributes:
        keras: the Keras module (`keras`, `tf_keras`, or the `keras` behind `tf.keras`).
        package: its import name. version: its version. engine: "tensorflow", "jax", "torch".
        stack_name: "k2", "tfk", "k3-tf", "k3-jax" or "k3-torch".
        flags: see `keras_bnguard.records.Stack.flags`.
    """

    engine = "tensorflow"
    flags = "compile"

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.package = keras.__name__.split(".", 1)[0]
        self.version = str(keras.__version__)
        self._stack: Optional[Stack] = None
        self._class_behaviour: Dict[Any, Optional[NormBehaviour]] = {}
        self._switches: Dict[type, bool] = {}

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
                engine=self.engine,
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

    def owns_weights(self, layer: Any) -> bool:
        """Whether a layer has weights of its own, not counting layers inside it."""
        raise NotImplementedError

    def defaults_to_training(self, layer: Any) -> bool:
        """Whether the `call` of a layer's class has `training=True` as its default."""
        cls = type(layer)
        known = self._switches.get(cls)
        if known is None:
            try:
                parameter = inspect.signature(cls.call).parameters.get("training")
            except (TypeError, ValueError, AttributeError):
                parameter = None
            known = parameter is not None and parameter.default is True
            self._switches[cls] = known
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

    def is_stock(self, layer: Any) -> bool:
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
            kind="keras",
            vectors=vectors,
            settings={
                "momentum": _number(getattr(layer, "momentum", None)),
                "epsilon": _number(getattr(layer, "epsilon", None)),
                "renorm": bool(getattr(layer, "renorm", False)),
                "synchronized": bool(getattr(layer, "synchronized", False))
                or "SyncBatch" in type(layer).__name__,
            },
            class_name=type(layer).__name__,
            own_flag=lambda: bool(layer.trainable),
            stock=self.is_stock(layer),
        )

    def _variable_handle(self, layer: Any, path: str, found: Dict[str, Any]) -> NormHandle:
        def vectors() -> Tuple[Any, Any, Any, Any]:
            return (found.get("mean"), found.get("variance"), None, None)

        return NormHandle(
            path=path,
            layer=layer,
            kind="variables",
            vectors=vectors,
            settings={"momentum": None, "epsilon": None, "renorm": False, "synchronized": False},
            class_name=type(layer).__name__,
            own_flag=lambda: bool(layer.trainable),
            stock=False,
        )

    def norm_behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        """What a BN's class does, measured on a fresh layer; None where it cannot be."""
        if handle.kind != "keras":
            return None
        layer = handle.layer
        key = (type(layer), bool(handle.settings["renorm"]))
        if key not in self._class_behaviour:
            self._class_behaviour[key] = measure_norm(self, layer)
        return self._class_behaviour[key]

    # ------------------------------------------------------------------- flags
    def compiled_flags(self, model: Any) -> Optional[Dict[int, bool]]:
        """id(layer) -> `trainable` at `compile()`; None where this Keras keeps no record."""
        state = getattr(model, "_compiled_trainable_state", None)
        if not state:
            return None
        return {id(layer): bool(flag) for layer, flag in state.items()}

    def pending_flags(self, model: Any) -> Dict[int, bool]:
        """Flags the user wants but Keras has put aside for the length of `fit`."""
        return {}

    def step_is_built(self, model: Any) -> bool:
        """Whether the model has taken a step since `compile()`, so flags may be baked in."""
        return self.iterations(model) > 0

    def flip_outcome(self, model: Any, unknown: bool) -> str:
        """What happens to a flag changed after compile; `unknown`: the optimizer does not
        know the variables that are trainable now."""
        raise NotImplementedError

    def set_own_flag(self, layer: Any, flag: bool) -> None:
        """Set the `trainable` of one layer without touching those inside it."""
        raise NotImplementedError

    def remember_compiled_flags(self, model: Any) -> None:
        """Tell Keras that the flags as they are now are those the model was compiled with."""
        raise NotImplementedError

    # --------------------------------------------------------------- optimizer
    def renew_optimizer(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        """Give a model an optimizer built for the variables that train now.

        The new one has the same class, settings and present learning rate, or `schedule`, a
        LearningRateSchedule. With `carry` the slots of variables both know and the iteration
        count go over.

        Returns:
            (variables carried, variables with fresh slots).
        """
        raise NotImplementedError

    def finish_averages(self, model: Any) -> None:
        """With `use_ema`, put the averages into the weights, as Keras does when `fit` ends."""
        self.sync(model)
        optimizer = inner_optimizer(model.optimizer)
        if getattr(optimizer, "use_ema", False) and self.iterations(model):
            with strategy_scope(model):
                optimizer.finalize_variable_values(list(model.trainable_variables))

    def rate(self, model: Any) -> Optional[float]:
        """The learning rate, None where it is a LearningRateSchedule."""
        optimizer = inner_optimizer(model.optimizer)
        if self.rate_is_schedule(model):
            return None
        return float(self.to_numpy(optimizer.learning_rate))

    def set_rate(self, model: Any, rate: float) -> None:
        """Assign the learning rate; values JAX keeps elsewhere are brought home first."""
        self.sync(model)
        inner_optimizer(model.optimizer).learning_rate = float(rate)

    def rate_is_schedule(self, model: Any) -> bool:
        """Whether the optimizer was made with a LearningRateSchedule."""
        kept = getattr(inner_optimizer(model.optimizer), "_learning_rate", None)
        return isinstance(kept, self.keras.optimizers.schedules.LearningRateSchedule)

    def optimizer_state(self, model: Any) -> List[np.ndarray]:
        """Copies of all optimizer variables, in the optimizer's own order."""
        self.sync(model)
        return [self.to_numpy(v) for v in self._optimizer_variables(model)]

    def load_optimizer_state(self, model: Any, state: Sequence[np.ndarray]) -> bool:
        """Put optimizer variables back; False, and nothing changed, where they do not fit."""
        variables = self._optimizer_variables(model)
        shapes = [tuple(int(d) for d in v.shape) for v in variables]
        if shapes != [tuple(value.shape) for value in state]:
            return False
        for variable, value in zip(variables, state):
            variable.assign(value)
        return True

    def random_variables(self, model: Any) -> List[Any]:
        """States of the seed generators of a model's layers, which no weight file holds."""
        weights = {id(v) for v in model.weights}
        return [v for v in model.variables if id(v) not in weights]

    def _optimizer_variables(self, model: Any) -> List[Any]:
        variables = model.optimizer.variables
        return list(variables() if callable(variables) else variables)

    def trainable_count(self, layer: Any) -> int:
        """How many values of a layer's own weights could train (for BN: gamma and beta)."""
        raise NotImplementedError

    def optimizer_facts(self, model: Any) -> Optional[OptimizerFacts]:
        raise NotImplementedError

    def has_own_step(self, model: Any) -> bool:
        """Whether the user wrote the `train_step`: it may use several optimizers, so what
        `model.optimizer` does not know says nothing."""
        for cls in type(model).__mro__:
            if "train_step" in cls.__dict__:
                package = cls.__module__.split(".", 1)[0]
                if package != "keras_bnguard":
                    return bool(package != self.package)
        return False

    def iterations(self, model: Any) -> int:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return 0
        try:
            return int(self.to_numpy(optimizer.iterations))
        except Exception:
            return 0

    # ----------------------------------------------------------------- numbers
    def to_numpy(self, variable: Any) -> np.ndarray:
        """A copy of a variable's value as a NumPy array."""
        raise NotImplementedError

    def flat(self, variables: Sequence[Any]) -> np.ndarray:
        """The values of several vectors joined to one float32 (or wider) array, copied."""
        if not variables:
            return np.zeros((0,), np.float32)
        return np.concatenate([np.ravel(self.to_numpy(v)) for v in variables])

    def state(self, handle: NormHandle, affine: bool = True) -> NormState:
        """The vectors of one BN; None for those it does not have or has not built."""
        mean, variance, gamma, beta = handle.vectors()

        def read(variable: Any) -> Optional[np.ndarray]:
            return None if variable is None else np.array(self.to_numpy(variable), copy=True)

        if not affine:
            return NormState(read(mean), read(variance))
        return NormState(read(mean), read(variance), read(gamma), read(beta))

    def dtype_of(self, variable: Any) -> str:
        dtype = getattr(variable, "dtype", "float32")
        return str(getattr(dtype, "name", dtype)).replace("torch.", "")

    def sync(self, model: Any) -> None:
        """Bring the values back into the model where an engine keeps them elsewhere."""

    # ------------------------------------------------------------------ probes
    def probe_math(self) -> ProbeMath:
        """The array operations a probe of a model of this Keras uses."""
        raise NotImplementedError

    def compiled_probe(self, model: Any, traced: Callable[..., Any]) -> Callable[[Any], Any]:
        """A function of a batch that runs `traced(call)`, `call` being the model on the batch
        in inference mode; compiled where the engine compiles, without gradients."""
        raise NotImplementedError

    def tensor_to_numpy(self, tensor: Any) -> np.ndarray:
        """A tensor of this engine as NumPy."""
        return self.to_numpy(tensor)

    def map_structure(self, function: Callable[[Any], Any], structure: Any) -> Any:
        """Apply a function to every tensor of a list, tuple or dict of tensors."""
        if isinstance(structure, dict):
            return {key: self.map_structure(function, value) for key, value in structure.items()}
        if isinstance(structure, (list, tuple)):
            return [self.map_structure(function, value) for value in structure]
        return function(structure)

    def loss_of(self, model: Any, y: Any, outputs: Any, sample_weight: Any = None) -> float:
        """The compiled loss of a batch, without regularisation terms, as a Python float.

        The loss objects of the user are called and nothing else, so no tracker moves. With
        several outputs it is the sum, weighted by the compiled `loss_weights` where given.
        """
        parts = loss_parts(model.loss, y, outputs, getattr(model, "output_names", None))
        total = 0.0
        for loss, target, output in parts:
            chosen = self.keras.losses.get(loss)
            values = chosen(keras_tensor(self.keras, target), keras_tensor(self.keras, output))
            total += float(np.mean(self.tensor_to_numpy(values)))
        return total

    def assign(self, variable: Any, value: np.ndarray) -> None:
        """Put a value into a variable of a BN."""
        variable.assign(value)

    def takes_training(self, model: Any) -> bool:
        """Whether a model's `call` has a `training` parameter."""
        return "training" in self._call_parameters(model)

    # -------------------------------------------------------------- train step
    def has_train_function(self, model: Any) -> bool:
        return getattr(model, "train_function", None) is not None

    def drop_train_function(self, model: Any) -> None:
        """Forget the compiled step; the next `fit` or `train_on_batch` makes a new one."""
        if getattr(model, "train_function", None) is not None:
            model.train_function = None

    def rebuild_train_function(self, model: Any) -> None:
        """Make a new compiled step now, as is needed inside `fit`."""
        model.make_train_function(force=True)

    def call_context(self) -> Any:
        """The object that carries `training` from a layer to those inside it, None outside
        a call or where this Keras has none that leaks."""
        return None

    def opened_call_context(self, training: Any) -> Any:
        """Context manager: a call context with `training` where none is open."""
        return contextlib.nullcontext()

    def rewritable_nodes(self, model: Any) -> Iterator[Any]:
        """Graph nodes whose written `training=False` this Keras would override in `fit`."""
        return iter(())

    # -------------------------------------------------------------------- files
    def load_model(self, path: str) -> Any:
        """The model in a `.keras` or `.h5` file, not compiled, with Keras's safe mode on.

        Safe mode does not cover every file and release: check a file you did not write first,
        as `bnguard audit` does.
        """
        return self.keras.models.load_model(path, compile=False, safe_mode=True)

    # ----------------------------------------------------------- other models
    def other_models(self, model: Any) -> List[Any]:
        """Compiled models alive in this process, but for `model` (walks all objects)."""
        return [
            thing
            for thing in gc.get_objects()
            if is_live(thing, self.keras.Model)
            and thing is not model
            and getattr(thing, "optimizer", None) is not None
        ]


def loss_parts(
    loss: Any, y: Any, outputs: Any, names: Optional[Sequence[str]]
) -> List[Tuple[Any, Any, Any]]:
    """(loss, target, output) for each output of a model, from what `compile` was given."""
    if isinstance(outputs, dict):
        wanted = y if isinstance(y, dict) else dict.fromkeys(outputs, y)
        chosen = loss if isinstance(loss, dict) else dict.fromkeys(outputs, loss)
        return [(chosen[k], wanted[k], outputs[k]) for k in outputs if chosen.get(k) is not None]
    if isinstance(outputs, (list, tuple)):
        keys = list(names or range(len(outputs)))
        targets = [y[k] for k in keys] if isinstance(y, dict) else list(y)
        if isinstance(loss, dict):
            chosen_list = [loss.get(k) for k in keys]
        else:
            chosen_list = list(loss) if isinstance(loss, (list, tuple)) else [loss] * len(keys)
        rows = zip(chosen_list, targets, outputs)
        return [(lo, t, o) for lo, t, o in rows if lo is not None]
    return [(loss, y, outputs)] if loss is not None else []


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer a LossScaleOptimizer wraps, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", None) or optimizer


def is_live(thing: Any, cls: type) -> bool:
    try:
        return issubclass(type(thing), cls) and not isinstance(thing, weakref.ProxyTypes)
    except Exception:
        return False


def _number(value: Any) -> Optional[float]:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


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

"""Keras 3 on torch: flags are read at every step, and BN may be inside torch modules."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.adapters.keras3 import (
    Keras3Flags,
    Keras3Graph,
    Keras3Optimizer,
    Keras3Step,
    Keras3Values,
)
from keras_bnguard.backends.base import Parts
from keras_bnguard.backends.parts.variable_flags import VariableFlags
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.signatures import takes_training
from keras_bnguard.records import (
    ChangeOutcome,
    FlagTiming,
    NormBehaviour,
    NormKind,
    ReplicaStatistics,
)


class TorchGraph(Keras3Graph):
    """Layers of Keras, and BN in the torch modules that some of them wrap."""

    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        module = getattr(layer, "module", None)
        if module is None or type(layer).__name__ == "Layer":
            return super().hidden_handles(layer, path)
        import torch

        if not isinstance(module, torch.nn.Module) or self.is_layer(module):
            return super().hidden_handles(layer, path)
        norm_class = torch.nn.modules.batchnorm._BatchNorm
        return [
            _torch_handle(layer, norm, f"{path}/{name}" if name else path)
            for name, norm in module.named_modules()
            if isinstance(norm, norm_class) and norm.track_running_stats
        ]


class TorchVariableFlags(VariableFlags):
    """Variables of Keras, each of them a parameter of torch."""

    def is_frozen(self, variable: Any) -> bool:
        """As in the base class; the user may have set `requires_grad` of the parameter alone."""
        parameter = getattr(variable, "value", None)
        return super().is_frozen(variable) or getattr(parameter, "requires_grad", True) is False


class TorchFlags(Keras3Flags):
    """A changed flag counts at the next step."""

    variable_flags = TorchVariableFlags
    timing = FlagTiming.IMMEDIATE

    def change_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        return ChangeOutcome.RAISES if unknown else ChangeOutcome.IMMEDIATE


class TorchStep(Keras3Step):
    """Every step is eager; processes of `torch.distributed` train replicas."""

    traces = False
    replica_statistics = ReplicaStatistics.PER_PROCESS

    def replicas(self, model: Any) -> int:
        import torch

        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return int(torch.distributed.get_world_size()) if distributed else 1

    def outside_trace(self) -> Any:
        import torch

        return torch.no_grad()

    def hook_framework_optimizers(self, stepped: Callable[[Any, List[Any]], None]) -> Any:
        try:
            from torch.optim import optimizer as torch_optimizer
        except ImportError:
            return None
        register = getattr(torch_optimizer, "register_optimizer_step_post_hook", None)
        if register is None:
            return None

        def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
            every = [p for group in optimizer.param_groups for p in group["params"]]
            # `model.parameters()` gives the moving statistics too; no step changes those.
            stepped(optimizer, [p for p in every if p.requires_grad])

        return register(after_step)


class TorchValues(Keras3Values):
    """torch tensors, wrapped by Keras or in a torch module."""

    def to_numpy(self, variable: Any) -> np.ndarray:
        return np.array(_on_host(getattr(variable, "value", variable)), copy=True)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return lambda: _joined(variables)

    def dtype_of(self, variable: Any) -> str:
        return str(getattr(variable, "dtype", "float32")).replace("torch.", "")

    def assign(self, variable: Any, value: np.ndarray) -> None:
        import torch

        if isinstance(variable, torch.Tensor):
            with torch.no_grad():
                variable.copy_(torch.as_tensor(value, dtype=variable.dtype))
        else:
            variable.assign(value)

    def outside_weights(self, model: Any) -> List[Any]:
        """Buffers of wrapped torch modules: Keras has their parameters only."""
        layers = model._flatten_layers()
        found = {id(each): each for layer in layers for each in layer.buffers()}
        return list(found.values())

    def identity(self, variable: Any) -> int:
        """As in the base class; optimizers of torch get the tensor inside a variable."""
        return id(getattr(variable, "value", variable))

    def norm_behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        """As in the base class; of a module of torch, whether a step puts it in training mode.

        Its statistics and its output follow from that mode, never from a flag of Keras.
        """
        if handle.kind is not NormKind.TORCH:
            return super().norm_behaviour(handle)
        trains = _is_put_in_training(handle.layer, handle.module)
        return NormBehaviour(trains, trains, trains)

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        import torch

        mode = {"training": training} if takes_training(model) else {}

        def run(x: Any) -> Any:
            tensors = self.map_structure(self.keras.ops.convert_to_tensor, x)
            with torch.no_grad():
                return traced(lambda: model(tensors, **mode))

        return run


def _torch_handle(layer: Any, norm: Any, path: str) -> NormHandle:
    """The handle of a BN of torch inside the module that a Keras layer wraps."""

    def vectors() -> Tuple[Any, Any, Any, Any]:
        return (norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def own_flag() -> bool:
        parameters = [p for p in (norm.weight, norm.bias) if p is not None]
        if parameters and not any(p.requires_grad for p in parameters):
            return False
        return bool(layer.trainable)

    return NormHandle(
        path=path,
        layer=layer,
        kind=NormKind.TORCH,
        vectors=vectors,
        # torch writes the share of the new value, Keras the share of the old one.
        settings={
            "momentum": None if norm.momentum is None else 1.0 - float(norm.momentum),
            "epsilon": float(norm.eps),
            "renorm": False,
            "synchronized": type(norm).__name__ == "SyncBatchNorm",
        },
        class_name=f"torch.nn.{type(norm).__name__}",
        own_flag=own_flag,
        module=norm,
        builtin=False,
    )


def _is_put_in_training(layer: Any, module: Any) -> bool:
    """Whether a module is in training mode after its wrapper was put there, as each step does.

    A user may have replaced `train` of the module, or of one around it, to keep it in eval mode.
    """
    modes = [(each, each.training) for each in layer.modules()]
    try:
        layer.train(True)
        return bool(module.training)
    except Exception:  # `train` of the user's
        return True
    finally:
        for each, mode in modes:
            each.training = mode


def _on_host(tensor: Any) -> np.ndarray:
    """A tensor's values; bfloat16, which NumPy lacks, as float32, which holds every one."""
    on_cpu = tensor.detach().cpu()
    if "bfloat16" in str(on_cpu.dtype):
        on_cpu = on_cpu.float()
    return np.asarray(on_cpu.numpy())


def _joined(variables: Sequence[Any]) -> np.ndarray:
    """The values of several vectors joined to one array, copied."""
    if not variables:
        return np.zeros((0,), np.float32)
    import torch

    values = [getattr(v, "value", v).detach().reshape(-1) for v in variables]
    if len({v.device for v in values}) == 1 and len({v.dtype for v in values}) == 1:
        return np.array(_on_host(torch.cat(values)), copy=True)
    return np.concatenate([_on_host(v) for v in values])


PARTS = Parts(TorchGraph, TorchFlags, Keras3Optimizer, TorchStep, TorchValues)

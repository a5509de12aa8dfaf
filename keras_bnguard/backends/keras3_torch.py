"""Keras 3 on torch: flags are read at every step; BN may hide inside torch modules."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.keras3 import Keras3Backend
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.records import ChangeOutcome, NormKind


class Keras3TorchBackend(Keras3Backend):
    backend = "torch"
    flags = "live"

    def to_numpy(self, variable: Any) -> np.ndarray:
        return np.array(_on_host(getattr(variable, "value", variable)), copy=True)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return lambda: _joined(variables)

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        import torch

        mode = {"training": training} if self.takes_training(model) else {}

        def run(x: Any) -> Any:
            tensors = self.map_structure(self.keras.ops.convert_to_tensor, x)
            with torch.no_grad():
                return traced(lambda: model(tensors, **mode))

        return run

    def assign(self, variable: Any, value: np.ndarray) -> None:
        import torch

        if isinstance(variable, torch.Tensor):
            with torch.no_grad():
                variable.copy_(torch.as_tensor(value, dtype=variable.dtype))
        else:
            variable.assign(value)

    def dtype_of(self, variable: Any) -> str:
        return str(getattr(variable, "dtype", "float32")).replace("torch.", "")

    def replicas(self, model: Any) -> int:
        import torch

        standard_error = torch.distributed.is_available() and torch.distributed.is_initialized()
        return int(torch.distributed.get_world_size()) if standard_error else 1

    def flip_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        return ChangeOutcome.RAISES if unknown else ChangeOutcome.LIVE

    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        module = getattr(layer, "module", None)
        if module is None or type(layer).__name__ == "Layer":
            return super().hidden_handles(layer, path)
        import torch

        if not isinstance(module, torch.nn.Module) or self.is_layer(module):
            return super().hidden_handles(layer, path)
        norm_class = torch.nn.modules.batchnorm._BatchNorm
        return [
            self._torch_handle(layer, norm, f"{path}/{name}" if name else path)
            for name, norm in module.named_modules()
            if isinstance(norm, norm_class) and norm.track_running_stats
        ]

    def _torch_handle(self, layer: Any, norm: Any, path: str) -> NormHandle:
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


def _on_host(tensor: Any) -> np.ndarray:
    """A tensor's values; bfloat16, which NumPy lacks, as float32, which holds every one."""
    host = tensor.detach().cpu()
    if "bfloat16" in str(host.dtype):
        host = host.float()
    return np.asarray(host.numpy())


def _joined(variables: Sequence[Any]) -> np.ndarray:
    """Values of several vectors joined; one array, copied."""
    if not variables:
        return np.zeros((0,), np.float32)
    import torch

    values = [getattr(v, "value", v).detach().reshape(-1) for v in variables]
    if len({v.device for v in values}) == 1 and len({v.dtype for v in values}) == 1:
        return np.array(_on_host(torch.cat(values)), copy=True)
    return np.concatenate([_on_host(v) for v in values])

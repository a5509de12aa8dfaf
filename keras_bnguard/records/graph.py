"""What surrounds a BN in the graphs that call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class GraphCall:
    """One call of a BN in a functional graph.

    Attributes:
        training: the value written at the call or at a call around it, None where none is.
        owner: path of the layer whose call carries that value.
        order: position in execution order, for comparisons inside one inventory.
        source: "file.py:41" of the call that carries the value. Defaults to None: unknown.
        inside_false: whether a call around it was written with `training=False`, which counts
            for all calls inside where a step obeys it. Defaults to False.
    """

    training: Optional[bool]
    owner: str
    order: int
    source: Optional[str] = None
    inside_false: bool = False


@dataclass(frozen=True)
class Convolution:
    """The convolution that feeds a BN through layers that leave the axes in place.

    Attributes:
        path: path of the convolution.
        channel_axis: its channel axis, counted from 0 with the batch axis.
        dims: number of axes of its output, the batch axis included.
    """

    path: str
    channel_axis: int
    dims: int


@dataclass(frozen=True)
class LostMask:
    """A mask that one layer before a BN makes and another one does not pass on.

    Attributes:
        made_by: path of the layer that makes the mask.
        dropped_by: path of the layer that drops it.
    """

    made_by: str
    dropped_by: str


@dataclass(frozen=True)
class TimeSteps:
    """A TimeDistributed layer around a BN.

    Attributes:
        path: path of the TimeDistributed layer.
        steps: its number of time steps, None where it varies.
        graph: whether the layer inside it is a functional or sequential model.
    """

    path: str
    steps: Optional[int]
    graph: bool


@dataclass(frozen=True)
class GraphContext:
    """What surrounds a BN in the graphs that call it.

    Attributes:
        axis: the axis it normalizes along; negative counts from the end, None where there is
            not exactly one.
        convolution: the convolution that feeds it. Defaults to None: none was found.
        lost_mask: a mask that does not reach it. Defaults to None: none is lost.
        time_steps: the TimeDistributed layer around it. Defaults to None: there is none.
        call_sites: how often one call of the model calls it. Defaults to 1.
        positions: positions of its feature map, where that has four axes and Keras 2 wrote the
            model's file. Defaults to None.
    """

    axis: Optional[int] = None
    convolution: Optional[Convolution] = None
    lost_mask: Optional[LostMask] = None
    time_steps: Optional[TimeSteps] = None
    call_sites: int = 1
    positions: Optional[int] = None


NO_CONTEXT = GraphContext()
"""Nothing is known of what surrounds a BN."""

"""BNG303: BN normalises along another axis than the one with the channels."""

from __future__ import annotations

from typing import Iterable, List, Optional, Tuple

from keras_bnguard.records import Convolution, Inventory, NormLayer, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, some


class WrongAxis(Rule):
    """BN normalises along another axis than the channels of the convolution before it.

    What it checks:
        The axis of each BN against the channel axis of the nearest convolution upstream.

    Why it matters:
        `BatchNormalization()` takes the last axis. After a convolution with
        `data_format="channels_first"` that is the width of the picture: every column gets a
        mean of its own, over all channels. It learns, only worse, and leaves stripes.

    How it decides:
        The graph is followed upwards through layers that leave the axes in place (activations,
        dropout, pooling, padding, merges) to a convolution; its `data_format` defines where the
        channels are.

    Example:
        x = keras.layers.Conv2D(64, 3, data_format="channels_first")(x)
        x = keras.layers.BatchNormalization()(x)         # axis=-1: the width

    Fix:
        `axis=1` after a convolution with channels first, `axis=-1` otherwise.

    Known limits:
        Not certain: one may mean to normalise along space. Silent where no convolution is
        found upstream, and in models that are no graph.

    Source:
        keras issues 4906, 5328 and 1921.
    """

    code = "BNG303"
    name = "wrong-axis"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation: List[NormLayer] = []
        convolutions: List[Tuple[int, Convolution]] = []
        for norm in inventory.norms:
            convolution, axis = norm.graph_context.convolution, _axis(norm)
            if convolution is None or axis is None:
                continue
            if axis != convolution.channel_axis:
                violation.append(norm)
                convolutions.append((axis, convolution))
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        axis, convolution = convolutions[0]
        size = f" ({violation[0].channels} values)" if violation[0].channels else ""
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} along another axis than the channels: "
                f"{some(paths)}. {violation[0].path} normalises along axis {axis}{size}, the "
                f"channels of {convolution.path} are axis {convolution.channel_axis} of "
                f"{convolution.dims}. {inventory.stack} takes mean and variance over the channels "
                "there."
            ),
            fix=(
                "build the BN again with the axis of the channels, "
                f"BatchNormalization(axis={convolution.channel_axis})"
            ),
            evidence={
                path: {"axis": axis, "channel_axis": conv.channel_axis, "convolution": conv.path}
                for path, (axis, conv) in zip(paths, convolutions)
            },
        )


def _axis(norm: NormLayer) -> Optional[int]:
    axis, convolution = norm.graph_context.axis, norm.graph_context.convolution
    if axis is None or convolution is None:
        return None
    return axis + convolution.dims if axis < 0 else axis

"""What was seen of a model outside its training steps: inference passes, and calls of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional

from keras_bnguard.records.moments import Moment


@dataclass(frozen=True)
class WrittenTrue:
    """Where the `training=True` stands that reached a BN in inference.

    Attributes:
        class_name: the class whose `call` passes it, "" where that is not known.
        source: "file.py:41" of that `call`, None where unknown.
        in_step: whether the step itself calls the model with it.
        default_of: path of the layer whose default `training=True` it is, None where it is none.
    """

    class_name: str = ""
    source: Optional[str] = None
    in_step: bool = False
    default_of: Optional[str] = None


@dataclass(frozen=True)
class InferencePass:
    """How the BN were called in the first inference pass that was observed.

    Attributes:
        moment: the pass: validation, `evaluate` or `predict`.
        in_training: path of each BN that ran in training mode -> where its `training=True` stands.
    """

    moment: Moment
    in_training: Mapping[str, WrittenTrue] = field(default_factory=dict)


@dataclass(frozen=True)
class OutsideChange:
    """What calls with `training=True` outside training did to the moving statistics.

    Attributes:
        changes: path of each BN that changed -> mean shift in standard deviations or log variance
            ratio, the larger one, on average over its channels.
        calls: the number of calls.
        source: "file.py:41" of the first one, None where unknown.
    """

    changes: Mapping[str, float]
    calls: int = 1
    source: Optional[str] = None

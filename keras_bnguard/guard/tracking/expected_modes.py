"""What each BN should do and did, worked out again only where something new is known."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Sequence

from keras_bnguard.model.expected_mode import did_run, expected_mode
from keras_bnguard.records import CallSite, ExpectedMode, Inventory, RunMode


class Modes(NamedTuple):
    """Of one BN.

    Attributes:
        expected: the mode it should run in.
        why: the fact that decided it.
        ran: the mode it ran in, as far as calls of it were observed.
    """

    expected: ExpectedMode
    why: str
    ran: RunMode


class ExpectedModes:
    """The modes of all BN of a model, by path.

    Attributes:
        version: grows when the inventory or the observed calls are new.
    """

    def __init__(self) -> None:
        self.version = 0
        self._inventory: Optional[Inventory] = None
        self._counts: Dict[str, int] = {}
        self._modes: Dict[str, Modes] = {}

    def of(
        self, inventory: Inventory, calls: Mapping[str, Sequence[CallSite]]
    ) -> Mapping[str, Modes]:
        """Path -> modes.

        Args:
            inventory: of the model; a record, so the same object has the same content.
            calls: path -> the calls of a BN that were observed. They only ever grow.
        """
        counts = {path: len(sites) for path, sites in calls.items()}
        if inventory is not self._inventory or counts != self._counts:
            self._inventory, self._counts = inventory, counts
            self.version += 1
            self._modes = {
                norm.path: Modes(
                    *expected_mode(norm, calls.get(norm.path)), did_run(norm, calls.get(norm.path))
                )
                for norm in inventory.norms
            }
        return self._modes

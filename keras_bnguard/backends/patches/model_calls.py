"""Stand in front of calls of models that were written with `training=True`."""

from __future__ import annotations

from typing import Any, Callable

from keras_bnguard.backends.patches.class_patches import ClassPatches, stands_for
from keras_bnguard.backends.patches.watcher import Watcher


def watch_calls(patches: ClassPatches, owner: Any, watcher: Callable[[], Watcher]) -> None:
    """Have a watcher called before and after such a call; any other call only passes through.

    Args:
        patches: gets the hook, and takes it off.
        owner: the class of models. Where it has no `__call__` of its own, as in Keras 3, that of
            layers is found at each call, since a call tracer may stand in front of it.
        watcher: returns the watcher of now.
    """
    has_own = "__call__" in owner.__dict__

    def make(original: Any) -> Any:
        def watched_call(model: Any, *args: Any, **kwargs: Any) -> Any:
            done = None
            if kwargs.get("training") is True:
                done = watcher().before_call(model)
            if has_own:
                result = original(model, *args, **kwargs)
            else:
                result = super(owner, model).__call__(*args, **kwargs)
            if done is not None:
                done()
            return result

        return stands_for(original, watched_call, runs_in_graphs=True)

    patches.put(owner, "__call__", make)

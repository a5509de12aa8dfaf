"""The name under which pytest loads the plugin: `pytest -p keras_bnguard.pytest_plugin`."""

from keras_bnguard.auto.pytest_plugin import *  # noqa: F403

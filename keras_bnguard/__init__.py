"""keras_bnguard: the truth about every BatchNormalization layer, and a step that obeys it."""
__version__ = "0.1.0"

"""One module for each Keras on each backend: the five classes that `registry` puts together."""

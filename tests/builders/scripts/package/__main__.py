import sys

from . import part

print(__name__, __package__, __spec__.name, part.VALUE, sys.argv, sys.path[0])

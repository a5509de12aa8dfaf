"""Reports: the `Report` of an audit or a run, one file a format, one registry of formats.

This file imports nothing: the registry is read before a script has loaded NumPy.
"""

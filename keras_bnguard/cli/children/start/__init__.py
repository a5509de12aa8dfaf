"""A folder that stands in PYTHONPATH under `bnguard run`; nothing imports it as a package."""

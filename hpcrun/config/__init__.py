"""From YAML, ``--set`` and Python to validated models, with errors that name the place."""

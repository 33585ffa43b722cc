"""The run history: an SQLite index, plus one self-describing folder for every run.

:class:`hpcrun.history.store.History` is the way in; :class:`hpcrun.history.record.RunRecord` is what it
keeps. Nothing is imported here, so that the layout of a run folder (``paths``) costs no database.
"""

"""The one error that commands of `python -m local` show without a traceback."""


class LocalError(Exception):
    """Something a person can act on. The message says what happened, to what, and what to do."""

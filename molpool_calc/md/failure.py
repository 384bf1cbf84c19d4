"""The one way a run ends that is neither its own nor the user's doing."""


class WriteFailure(RuntimeError):
    """A run could not be written on, as on a full disk; what was written is good.

    The message says up to which step everything is readable, and how to go on.
    """

"""The ways a run ends that are neither its own nor the user's doing."""


class WriteFailure(RuntimeError):
    """A run could not be written on, as on a full disk; what was written is good.

    The message says up to which step everything is readable, and how to go on.
    """


class EquilibrationFailure(RuntimeError):
    """A replica left its limits in equilibration, before anything was written.

    The message says which one, why, and what to do.
    """

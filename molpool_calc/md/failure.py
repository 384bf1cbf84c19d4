"""The ways a run ends that are neither its own nor the user's doing."""


class WriteFailure(RuntimeError):
    """A run could not be written on, as on a full disk; what was written is good.

    The message says up to which step everything is readable, and how to go on.
    """


class ForceFailure(RuntimeError):
    """A step could not be made for any replica, as its calculator failed.

    Force fields and integrators raise it in place of what their program raises; the
    run ends at its last complete step, with the message as its reason. What fails for
    one replica alone is better told by `state.Response.failures`.
    """


class EquilibrationFailure(RuntimeError):
    """A replica left its limits in equilibration, before anything was written.

    The message says which one, why, and what to do.
    """

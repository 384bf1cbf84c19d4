"""The commands of ``molpool``, one module each.

A module offers ``NAME``, ``HELP``, ``add_arguments``, ``run`` and ``summary`` (see
``command.Command``). Importing one is cheap: torch and the like are imported inside
``run``. A new command is a new module and its place in ``cli.COMMANDS``.

``run`` returns the JSON object of the command. Its key ``status``, where there is
one, decides on the exit code: ``finished`` 0, ``stopped`` (by a guard) 3,
``interrupted`` 130; ``reason``, where there is one, is printed on stderr. Wrong input
is a ``ValueError`` whose message is one sentence for the user.
"""

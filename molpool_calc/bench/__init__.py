"""Speed of a step: measured, beside a peer's, and against what the machine allows.

``systems`` names structures, ``steps`` says what is timed, ``timing`` times it in
alternating blocks, ``peer`` runs another program in a process of its own (``serve`` and
``worker_schnetpack`` are what runs there), ``floor`` counts the arithmetic and the
traffic of a step and measures the rates of the machine, ``row`` puts it together.
"""

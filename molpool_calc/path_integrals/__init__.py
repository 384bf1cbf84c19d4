"""Quantum nuclei: thermostatted ring-polymer molecular dynamics with i-PI.

i-PI (extra ``[ipi]``, GPLv3) moves the beads, in processes of its own; nothing here
imports it but the program of those processes. `RingPolymerJob` says what to run,
`run_ring_polymers` runs it to a folder, `quantum_spectrum` reads the spectrum off.
``driver.py`` is a potential for i-PI, also for inputs that users write themselves.
"""

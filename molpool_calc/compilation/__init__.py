"""Packages of compiled code for a potential: built once, verified, kept on disk.

Energy, forces and all other properties are traced as one graph with any number of
systems, atoms and pairs, compiled ahead of time, and compared with the network run
operation by operation on random structures. Only what agrees and is faster is used.
On a GPU the launches of an evaluation, compiled or not, are recorded and replayed.
"""

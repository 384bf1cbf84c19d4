"""Networks with their gradients as machine code of our own, for the CPU.

The code in ``cpp`` computes what `networks`, `heads` and `derivatives` do together,
each pair of atoms once and without a call of Python or torch on the way. It is compiled
on the machine that runs it (``library``), fed with the weights of a potential
(``archive``) and compared with the network before it is used (``compilation.native``).
"""

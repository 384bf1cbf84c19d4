"""Batched molecular dynamics: pure steps, exact restarts, dipoles at every step.

All replicas are systems of one batch and move together, one call of the force field a
step. Two atoms in harmonic wells, for ten steps:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from molpool_calc.md.integrators import NVE
    >>> from molpool_calc.md.recorder import Recording
    >>> from molpool_calc.md.simulate import simulate
    >>> from molpool_calc.md.state import Response, initial_state, make_system
    >>> from molpool_calc.md.trajectory import read_run
    >>> from molpool_calc.segments import segments_from_sizes
    >>> def wells(positions):
    ...     energy = 0.5 * positions.square().sum(1)
    ...     return Response(energy=energy, forces=-positions, dipole=positions)
    >>> positions = torch.ones((2, 3), dtype=torch.float64)
    >>> system = make_system(
    ...     atomic_numbers=torch.tensor([18, 18]),
    ...     masses=torch.tensor([39.95, 39.95], dtype=torch.float64),
    ...     positions=positions,
    ...     systems=segments_from_sizes([1, 1], torch.device("cpu")),
    ...     free="all",
    ... )
    >>> state = initial_state(
    ...     wells,
    ...     positions=positions,
    ...     momenta=torch.zeros_like(positions),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> with TemporaryDirectory() as place:
    ...     recording = Recording(
    ...         folder=Path(place) / "run",
    ...         every=5,
    ...         checkpoint_every=1000,
    ...         header={"inputs": {"potential": "wells", "seed": 0}},
    ...     )
    ...     outcome = simulate(
    ...         wells,
    ...         system,
    ...         state,
    ...         NVE(timestep_fs=1.0),
    ...         n_steps=10,
    ...         recording=recording,
    ...     )
    ...     run = read_run(recording.folder)
    >>> outcome.status, run.dipoles.shape, run.positions.shape
    ('finished', (2, 11, 3), (2, 3, 1, 3))
"""

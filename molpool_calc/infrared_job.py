"""What decides an infrared run."""

from dataclasses import dataclass
from math import isfinite

from molpool_calc.compilation.engine import Compile
from molpool_calc.dynamics_job import DynamicsJob
from molpool_calc.md.guard import Limits

FRAME_INTERVAL_FS = 3.0
"""Most time between recorded velocities, which resolve up to 5559 cm⁻¹.

The spectrum needs the dipoles only; its bands are assigned by the velocities. A frame
takes 36 bytes per atom: 17 MB for 20 ps of eight replicas of nine atoms.
"""


@dataclass(frozen=True, kw_only=True)
class InfraredJob:
    """What decides an infrared run; recorded, and compared when a run is resumed.

    Attributes:
        temperature: of the ensemble the replicas start from, K.
        picoseconds: length of each replica.
        replicas: independent starts; four or more give a confidence band.
        seed: of all random numbers.
        timestep_fs: of the integration; the dipole is recorded at every step.
        equilibration_ps: of Langevin dynamics before each replica.
        friction_per_fs: of that dynamics, 1/fs.
        resolution: full width at half maximum of a sharp line, cm⁻¹; by default 8,
            or what a shorter run can give.
        dtype: of the network during dynamics.
        allow_unsuitable_pooling: run whatever the pooling and the structure.
        compile: as of the calculator; ``"auto"`` compiles for long runs.
        forces: of another program, which relaxes and gives harmonic vibrations too.
        wavenumber_scale: factor of computed wavenumbers where they are compared with
            an experiment.
        guard: what stops a replica; by default the usual limits at the temperature.
    """

    temperature: float = 300.0
    picoseconds: float = 20.0
    replicas: int = 8
    seed: int = 0
    timestep_fs: float = 0.5
    equilibration_ps: float = 1.0
    friction_per_fs: float = 0.02
    resolution: float | None = None
    dtype: str = "float32"
    allow_unsuitable_pooling: bool = False
    compile: Compile = "auto"
    forces: str | None = None
    wavenumber_scale: float = 1.0
    guard: Limits | None = None

    def __post_init__(self) -> None:
        for name in ("picoseconds", "timestep_fs"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value:g}; give a positive number")
        if not (isfinite(self.equilibration_ps) and self.equilibration_ps >= 0):
            raise ValueError(
                f"equilibration_ps is {self.equilibration_ps:g}; give a positive "
                "number, or 0 for none"
            )

    @property
    def dynamics(self) -> DynamicsJob:
        """The dynamics of the replicas: NVE from canonical starts."""
        n_steps = round(1e3 * self.picoseconds / self.timestep_fs)
        return DynamicsJob(
            ensemble="nve",
            n_steps=n_steps,
            temperature=self.temperature,
            timestep_fs=self.timestep_fs,
            n_replicas=self.replicas,
            every=max(1, int(FRAME_INTERVAL_FS / self.timestep_fs)),
            seed=self.seed,
            friction_per_fs=self.friction_per_fs,
            equilibration_ps=self.equilibration_ps,
            dtype=self.dtype,
            allow_unsuitable_pooling=self.allow_unsuitable_pooling,
            compile=self.compile,
            forces=self.forces,
            guard=self.guard,
        )

"""What decides a run of molecular dynamics."""

from dataclasses import dataclass, fields

from molpool_calc.ase_integrators import refuse_misplaced_of_ase
from molpool_calc.compilation.engine import Compile
from molpool_calc.dipole_flux import DIPOLE_FLUX
from molpool_calc.ensembles import Options, integrator_of, refuse_misplaced
from molpool_calc.md.guard import Limits, usual_limits
from molpool_calc.md.integrators import Integrator, Langevin


@dataclass(frozen=True, kw_only=True)
class DynamicsJob:
    """What decides a run; recorded, and compared when a run is resumed.

    Attributes:
        ensemble: ``"nve"``, ``"nvt"`` or ``"npt"``.
        n_steps: of each replica; a resumed run may be made longer.
        thermostat: of ``"nvt"`` and ``"npt"``: ``"langevin"``, ``"bussi"`` or
            ``"nose-hoover"``.
        temperature: of the first momenta and of the thermostat, K.
        timestep_fs: of the integration.
        n_replicas: moved in one forward pass.
        every: steps between recorded positions; dipoles are recorded at every step.
        seed: of all random numbers.
        friction_per_fs: of Langevin dynamics, 1/fs.
        relaxation_fs: of velocity rescaling or of a Nosé-Hoover chain, fs.
        equilibration_ps: of Langevin dynamics before the run.
        dtype: of the network.
        allow_unsuitable_pooling: run whatever the pooling and the structure.
        record: scalar properties to record at every step, such as ``gap``, or
            ``polarizability``, or ``dipole_flux`` (see ``dipole_flux.py``).
        forces: names the calculator of another program that gives energies and forces,
            as in ``module:Class,key=value``; dipoles are those of the potential.
        compile: as of the calculator; ``"auto"`` compiles for long runs.
        chain_length: links of a Nosé-Hoover chain; by default 3.
        barostat: of ``"npt"``: ``"isotropic"`` (the default) or ``"flexible"``.
        pressure_bar: of the surroundings, bar; by default 1.
        barostat_relaxation_fs: of the volume, fs; by default 1000.
        compressibility_per_bar: an estimate, 1/bar; by default that of water, 4.5e-5.
        guard: what stops a replica; by default the usual limits at the temperature.
        ase: name of a class of ``ase.md`` that makes the steps instead, such as
            ``"NoseHooverChainNVT"``; its ensemble must be ``ensemble``.
    """

    ensemble: str
    n_steps: int
    thermostat: str = "langevin"
    temperature: float = 300.0
    timestep_fs: float = 0.5
    n_replicas: int = 1
    every: int = 10
    seed: int = 0
    friction_per_fs: float = 0.01
    relaxation_fs: float = 100.0
    equilibration_ps: float = 0.0
    dtype: str = "float32"
    allow_unsuitable_pooling: bool = False
    record: tuple[str, ...] = ()
    compile: Compile = "auto"
    forces: str | None = None
    chain_length: int | None = None
    barostat: str | None = None
    pressure_bar: float | None = None
    barostat_relaxation_fs: float | None = None
    compressibility_per_bar: float | None = None
    guard: Limits | None = None
    ase: str | None = None

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_replicas", "every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; give a positive integer"
                )
        if not self.temperature > 0:
            raise ValueError(
                f"the temperature is {self.temperature:g} K; give a positive one"
            )
        if self.ase is None:
            refuse_misplaced(self.options.named, self.ensemble, self.thermostat)
        else:
            refuse_misplaced_of_ase(self.options.named, self.ase, self.ensemble)
        if self.ensemble == "npt" and DIPOLE_FLUX in self.record:
            raise ValueError(
                f"{DIPOLE_FLUX} is that of a cell that stays as it is, but that of npt "
                "moves; equilibrate with npt and record it with nve"
            )

    @property
    def limits(self) -> Limits:
        """What stops a replica."""
        usual = usual_limits(self.temperature)
        return usual if self.guard is None else self.guard

    @property
    def options(self) -> Options:
        """What this run's thermostat and barostat take beside the temperature."""
        values = {field.name: getattr(self, field.name) for field in fields(Options)}
        return Options(**values)

    @property
    def langevin(self) -> Langevin:
        """Langevin dynamics at the temperature of the run."""
        return Langevin(
            timestep_fs=self.timestep_fs,
            temperature=self.temperature,
            friction_per_fs=self.friction_per_fs,
        )

    @property
    def integrator(self) -> Integrator:
        """What makes the steps."""
        return integrator_of(
            self.ensemble,
            self.thermostat,
            self.options,
            timestep_fs=self.timestep_fs,
            temperature=self.temperature,
        )

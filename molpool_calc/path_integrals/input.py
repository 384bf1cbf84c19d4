"""The input files of i-PI for one replica: equilibration, then production."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np

from molpool_calc.elements import symbol
from molpool_calc.path_integrals.job import RingPolymerJob

Stage = Literal["equilibration", "production"]
STRUCTURE = "start.xyz"
DRIVER = Path(__file__).with_name("driver.py")

_FORBIDDEN = ",:{}[]<>&"
_SIDE = 1000.0  # Å; i-PI wants a cell also for molecules, and never uses it
# Seeds of stages and replicas stay apart for as many replicas as anyone will run.
_SEEDS_PER_JOB = 10_000


@dataclass(frozen=True, kw_only=True)
class Forces:
    """What i-PI loads for forces: a file with a driver class, and its arguments."""

    path: Path = DRIVER
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {"path": str(self.path), **self.parameters}.items():
            if any(sign in value for sign in _FORBIDDEN):
                raise ValueError(
                    f"the {name} is {value}, but i-PI takes none of the signs "
                    f"{_FORBIDDEN} in it; rename it"
                )


def structure_text(numbers: np.ndarray, positions: np.ndarray) -> str:
    """Return a structure (Å) in the XYZ format of i-PI."""
    cell = " ".join([f"{_SIDE:.1f}"] * 3 + ["90.0"] * 3)
    lines = [
        f"{symbol(int(number))} {x:.10f} {y:.10f} {z:.10f}"
        for number, (x, y, z) in zip(numbers, positions, strict=True)
    ]
    comment = f"# CELL(abcABC): {cell} positions{{angstrom}} cell{{angstrom}}"
    return "\n".join([str(len(numbers)), comment, *lines, ""])


def input_text(
    job: RingPolymerJob,
    stage: Stage,
    replica: int,
    *,
    masses: np.ndarray,
    forces: Forces,
) -> str:
    """Return the input of i-PI for one stage of one replica.

    Equilibration: PILE-L, a Langevin thermostat on every normal mode (Ceriotti,
    Parrinello, Markland & Manolopoulos 2010, J. Chem. Phys. 133, 124104), from rings
    that are all at the start. Production: PILE-G, which leaves the dynamics of the
    centroids alone but for their total kinetic energy; with the friction ``2λω_k``,
    ``λ = 1/2``, on the other modes it is the thermostatted ring-polymer dynamics of
    Rossi, Ceriotti & Manolopoulos 2014, J. Chem. Phys. 140, 234116.

    All floating-point numbers are written with 17 digits, so that a restart goes on
    from the same state. Outputs are flushed by the program that steps, not by i-PI,
    whose default waits for the disk after every sample.

    Args:
        job: what to run.
        stage: which of the two.
        replica: its number.
        masses: in amu; i-PI's own table differs in the fourth digit.
        forces: where forces come from.
    """
    starts = stage == "equilibration"
    thermostat = (
        ("pile_l", job.relaxation_fs) if starts else ("pile_g", job.centroid_fs)
    )
    begin = _FROM_STRUCTURE if starts else _FROM_CHECKPOINT
    numbers = ", ".join(f"{mass:.10g}" for mass in masses)
    parameters = ", ".join(f"{k}: {v}" for k, v in forces.parameters.items())
    seed = _SEEDS_PER_JOB * job.seed + 2 * replica + starts
    return _INPUT.format(
        n_steps=job.n_equilibration if starts else job.n_steps,
        seed=seed % 2**31,
        stage=stage,
        stride=job.stride,
        outputs="" if starts else _DIPOLES.format(stride=job.stride),
        path=escape(str(forces.path)),
        beads=job.beads,
        parameters=parameters,
        begin=begin.format(masses=numbers, temperature=job.temperature),
        temperature=job.temperature,
        fixcom=job.internal,
        timestep=job.timestep_fs,
        thermostat=thermostat[0],
        tau=thermostat[1],
        damping=job.damping,
    )


_DIPOLES = """<trajectory filename='dipole' stride='{stride}' flush='0'
      extra_type='dipole'> extras_component_raw(0) </trajectory>"""
_FROM_STRUCTURE = f"""<file mode='xyz'> {STRUCTURE} </file>
      <masses mode='manual' units='dalton'> [{{masses}}] </masses>
      <velocities mode='thermal' units='kelvin'> {{temperature}} </velocities>"""
_FROM_CHECKPOINT = "<file mode='chk'> equilibration.restart </file>"
_INPUT = """<simulation verbosity='quiet' threading='False' floatformat='%25.16e'
            safe_stride='1000000000'>
  <total_steps> {n_steps} </total_steps>
  <prng><seed> {seed} </seed></prng>
  <output prefix='{stage}'>
    <properties filename='properties' stride='{stride}' flush='0'>
      [step, time{{femtosecond}}, conserved{{electronvolt}}, potential{{electronvolt}},
       kinetic_cv{{electronvolt}}, kinetic_md(nm=0){{electronvolt}}]
    </properties>
    {outputs}
  </output>
  <ffdirect name='molpool' pbc='False'>
    <pes> custom </pes>
    <pes_path> {path} </pes_path>
    <batch_size> {beads} </batch_size>
    <parameters> {{{parameters}}} </parameters>
  </ffdirect>
  <system>
    <initialize nbeads='{beads}'>
      {begin}
    </initialize>
    <forces><force forcefield='molpool'/></forces>
    <ensemble><temperature units='kelvin'> {temperature} </temperature></ensemble>
    <motion mode='dynamics'>
      <fixcom> {fixcom} </fixcom>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> {timestep} </timestep>
        <thermostat mode='{thermostat}'>
          <tau units='femtosecond'> {tau} </tau>
          <pile_lambda> {damping} </pile_lambda>
        </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""

"use strict";
/* The atoms along the run, and in normal modes; drawn by 3Dmol.js. */

const SEQUENTIAL = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
const DIVERGING = ["#2166ac", "#92c5de", "#f0f0f0", "#f4a582", "#b2182b"];
const MOST_MOVED = 0.35;      // Å, amplitude of the atom that moves most
const SMALL = 3.5;            // Å, molecules up to this size are magnified
const FRAME_MS = 60;
const FRAMES_OF_A_PERIOD = 24;

function mixed(palette, share) {
  const place = Math.min(Math.max(share, 0), 1) * (palette.length - 1);
  const k = Math.min(Math.floor(place), palette.length - 2), part = place - k;
  const channel = (colour, n) => parseInt(colour.slice(1 + 2 * n, 3 + 2 * n), 16);
  const mix = (n) => Math.round(channel(palette[k], n) * (1 - part) + channel(palette[k + 1], n) * part);
  return (mix(0) << 16) + (mix(1) << 8) + mix(2);
}

class Viewer {
  constructor(trajectory, modes) {
    this.trajectory = trajectory;
    this.modes = modes;
    this.parts = Object.fromEntries(["what", "replica", "colour", "play", "frame", "time", "stage", "scale", "note"]
      .map((name) => [name, document.getElementById(`viewer-${name}`)]));
    this.timer = null;
    this.phase = 0;
    try {
      this.drawing = $3Dmol.createViewer(this.parts.stage, { backgroundAlpha: 0, antialias: true });
    } catch { this.drawing = null; }
    if (!this.drawing) {
      this.parts.note.textContent = "This browser has no WebGL, which the viewer needs.";
      return;
    }
    this.fill();
    this.listen();
    this.start();
  }

  fill() {
    const { what, replica, colour, note } = this.parts, run = this.trajectory;
    if (run) {
      what.append(new Option("the run", "run"));
      run.positions.forEach((_, k) => replica.append(new Option(k, k)));
      run.colours.forEach((each, k) => colour.append(new Option(each.name, k)));
      const left = run.positions.length < run.n_replicas ? `, of the first ${run.positions.length} of ${run.n_replicas} replicas` : "";
      note.textContent = `${run.times.length} of ${run.n_frames} recorded frames, evenly spaced${left}.`;
    }
    colour.prepend(new Option("element", "element", true, true));
    (this.modes ? this.modes.wavenumbers : []).forEach((wavenumber, k) =>
      what.append(new Option(`mode ${k + 1}: ${wavenumber.toFixed(0)} cm⁻¹`, k)));
  }

  listen() {
    const { what, replica, colour, play, frame } = this.parts;
    what.addEventListener("change", () => this.start());
    replica.addEventListener("change", () => this.show());
    colour.addEventListener("change", () => this.show());
    frame.addEventListener("input", () => this.show());
    play.addEventListener("click", () => this.run(this.timer === null));
  }

  /* Begin with what is chosen: the run at its first frame, or a mode that moves. */
  start() {
    const isRun = this.parts.what.value === "run", { replica, colour, frame } = this.parts;
    this.run(false);
    replica.disabled = colour.disabled = frame.disabled = !isRun;
    frame.max = isRun ? this.trajectory.times.length - 1 : 0;
    frame.value = 0;
    this.show();
    this.drawing.zoomTo();
    this.drawing.zoom(this.magnified());
    this.drawing.render();
    if (!isRun && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.run(true);
  }

  /* 3Dmol.js leaves small molecules small. */
  magnified() {
    const { positions } = this.parts.what.value === "run" ? { positions: this.trajectory.positions[0].slice(0, 3 * this.trajectory.symbols.length) } : this.modes;
    const farthest = Math.max(...positions.filter((_, i) => i % 3 === 0).map((x, i) => Math.hypot(x, positions[3 * i + 1], positions[3 * i + 2])));
    return this.trajectory && this.trajectory.cell ? 1 : Math.min(Math.max(SMALL / farthest, 1), 1.6);
  }

  showMode(k) {
    this.parts.what.value = k;
    this.start();
  }

  run(is) {
    clearInterval(this.timer);
    this.timer = is ? setInterval(() => this.step(), FRAME_MS) : null;
    this.parts.play.textContent = is ? "pause" : "play";
    this.parts.play.setAttribute("aria-pressed", String(is));
  }

  step() {
    if (this.parts.what.value === "run") {
      const { frame } = this.parts, n = this.trajectory.times.length;
      frame.value = (Number(frame.value) + 1) % n;
    } else this.phase = (this.phase + 1) % FRAMES_OF_A_PERIOD;
    this.show();
  }

  show() {
    if (this.parts.what.value === "run") this.showFrame(); else this.showDisplaced(Number(this.parts.what.value));
  }

  showFrame() {
    const { replica, colour, frame, time } = this.parts, run = this.trajectory;
    const n = run.symbols.length, k = Number(frame.value);
    const positions = run.positions[replica.value].slice(3 * n * k, 3 * n * (k + 1));
    const chosen = run.colours[colour.value];
    const scale = chosen && this.scaleOf(chosen);
    const values = chosen && chosen.values[replica.value].slice(n * k, n * (k + 1));
    const paint = values && values.map((value) => mixed(scale.palette, (value - scale.low) / (scale.high - scale.low || 1)));
    time.textContent = `${run.times[k]} ps`;
    this.key(chosen, scale);
    if (positions.includes(null)) {  // the replica was stopped before
      time.textContent += ", stopped";
      this.drawing.removeAllModels();
      this.drawing.render();
      return;
    }
    this.draw(run.symbols, positions, run.bonds, paint, run.cell);
  }

  showDisplaced(k) {
    const { positions, displacements, symbols, bonds, wavenumbers } = this.modes;
    const size = MOST_MOVED * Math.sin(2 * Math.PI * this.phase / FRAMES_OF_A_PERIOD);
    this.parts.time.textContent = `${wavenumbers[k].toFixed(1)} cm⁻¹`;
    this.key(null, null);
    this.draw(symbols, positions.map((x, i) => x + size * displacements[k][i]), bonds, null, null);
  }

  draw(symbols, positions, bonds, paint, cell) {
    const atoms = symbols.map((elem, i) => ({ elem, serial: i, index: i, bonds: [], bondOrder: [],
      x: positions[3 * i], y: positions[3 * i + 1], z: positions[3 * i + 2] }));
    for (const [i, j] of bonds) {
      for (const [a, b] of [[i, j], [j, i]]) { atoms[a].bonds.push(b); atoms[a].bondOrder.push(1); }
    }
    const style = paint ? { colorfunc: (atom) => paint[atom.index] } : { colorscheme: "Jmol" };
    this.drawing.removeAllModels();
    this.drawing.removeAllShapes();
    this.drawing.addModel().addAtoms(atoms);
    this.drawing.setStyle({}, { stick: { radius: 0.11, ...style }, sphere: { scale: 0.26, ...style } });
    if (cell) this.edges(cell);
    this.drawing.render();
  }

  edges(cell) {
    const corner = (a, b, c) => { const [x, y, z] = [0, 1, 2].map((k) => a * cell[0][k] + b * cell[1][k] + c * cell[2][k]); return { x, y, z }; };
    for (const [a, b] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      for (const [start, end] of [[corner(0, a, b), corner(1, a, b)], [corner(a, 0, b), corner(a, 1, b)], [corner(a, b, 0), corner(a, b, 1)]])
        this.drawing.addLine({ start, end, color: "gray" });
    }
  }

  /* Charges have a sign and a scale about zero; sizes and weights run from the least. */
  scaleOf(chosen) {
    const every = chosen.values.flat().filter((value) => value !== null);
    const low = every.reduce((a, b) => Math.min(a, b), Infinity), high = every.reduce((a, b) => Math.max(a, b), -Infinity);
    const most = Math.max(-low, high);
    return low < 0 ? { low: -most, high: most, palette: DIVERGING } : { low, high, palette: SEQUENTIAL };
  }

  key(chosen, scale) {
    const [low, bar, high] = this.parts.scale.children;
    this.parts.scale.hidden = !chosen;
    if (!chosen) return;
    low.textContent = `${chosen.name} ${short(scale.low)}`;
    high.textContent = `${short(scale.high)} ${chosen.unit}`;
    bar.style.background = `linear-gradient(90deg, ${scale.palette.join(", ")})`;
  }
}

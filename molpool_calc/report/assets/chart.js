"use strict";
/* A chart of layers over a common axis, in SVG: zoom, reading, legend, keyboard.
   The layers are described in layers.py. */

const TALL = 400;
const MIRROR = 0.2;            // share of the height for measurements
const MOST_OVER = 1.6;         // a wide band may not flatten the line below it
const LETTER = 6.3;            // width of a letter of a label, pixels
const REACH = 8;               // pixels from a stick that still mean it

class Chart {
  constructor(host, spec, onPick) {
    this.spec = spec;
    this.onPick = onPick;
    this.full = spec.range;
    this.view = [...spec.range];
    this.hidden = new Set();
    this.chosen = null;
    this.place = null;
    host.replaceChildren();
    this.host = host;
    const head = html("div", { class: "head-row" }, host);
    this.legend = html("div", { class: "legend" }, head);
    const reset = html("button", { type: "button", class: "reset" }, head, "show all");
    reset.addEventListener("click", () => this.zoom(...this.full));
    this.reading = html("output", { class: "reading", "aria-live": "polite" }, this.isSmall() ? this.legend : host);
    this.plot = svg("svg", { class: "plot", tabindex: "0", role: "application",
      "aria-label": `${spec.title}: ${spec.y.label} over ${spec.x.label}` }, host);
    this.makeLegend();
    listen(this);
    new ResizeObserver(() => this.draw()).observe(host);
    this.draw();
  }

  makeLegend() {
    this.spec.layers.forEach((layer, index) => {
      if (layer.unlisted) return;
      const button = html("button", { type: "button", class: `k-${layer.key}`, "aria-pressed": "true",
        "data-layer": layer.name }, this.legend);
      html("i", { "aria-hidden": "true" }, button);
      html("span", {}, button, layer.name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(index)) this.hidden.add(index);
        button.setAttribute("aria-pressed", String(!this.hidden.has(index)));
        this.draw();
      });
    });
  }

  /* Without a legend, the reading takes its place. */
  isSmall() {
    return this.spec.layers.every((layer) => layer.unlisted);
  }

  zoom(low, high) {
    const least = (this.full[1] - this.full[0]) / 500;
    const width = Math.min(Math.max(high - low, least), this.full[1] - this.full[0]);
    const start = Math.min(Math.max(low, this.full[0]), this.full[1] - width);
    this.view = [start, start + width];
    this.draw();
  }

  zoomBy(factor, about) {
    const [low, high] = this.view;
    this.zoom(about - (about - low) * factor, about + (high - about) * factor);
  }

  shown(panel) {
    return this.spec.layers.filter((layer, k) => !this.hidden.has(k) && (layer.panel || "main") === panel);
  }

  /* Positions of points in view, with one neighbour on either side. */
  inView(x) {
    return [Math.max(firstFrom(x, this.view[0]) - 1, 0), Math.min(firstFrom(x, this.view[1]) + 1, x.length)];
  }

  limits(axis) {
    let low = Infinity, high = -Infinity, over = -Infinity;
    const take = (value) => { if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); } };
    for (const layer of this.shown("main")) {
      if ((layer.axis || "left") !== axis || layer.kind === "labels") continue;
      if (layer.kind === "sticks") { layer.y.forEach(take); continue; }
      const [first, last] = this.inView(layer.x);
      for (let k = first; k < last; k++) {
        if (layer.kind === "line") take(layer.y[k]);
        else { over = Math.max(over, layer.high[k]); if (!this.spec.y.zero) take(layer.low[k]); }
      }
    }
    if (this.spec.y.zero) {
      const top = Number.isFinite(high) ? Math.max(high, Math.min(over, MOST_OVER * high)) : over;
      return [0, (top > 0 ? top : 1) * 1.06];
    }
    high = Math.max(high, over);
    if (!Number.isFinite(low)) return [0, 1];
    const margin = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - margin, high + margin];
  }

  draw() {
    const width = Math.max(this.host.clientWidth, 320), height = this.spec.height || TALL;
    const right = this.shown("main").some((layer) => layer.axis === "right") ? 62 : 14;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.replaceChildren();
    const hangs = this.shown("mirror").length > 0;
    const bottom = height - 42, split = hangs ? bottom - MIRROR * height : bottom;
    this.box = { left: 66, right: width - right, top: 8, bottom, split };
    const { left, top } = this.box, span = this.box.right - left;
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    svg("rect", { x: left, y: 0, width: span, height: bottom },
      svg("clipPath", { id: clip }, svg("defs", {}, this.plot)));
    const [low, high] = this.view;
    this.toX = (x) => left + span * (this.spec.x.reversed ? high - x : x - low) / (high - low);
    this.fromX = (px) => { const share = (px - left) / span * (high - low); return this.spec.x.reversed ? high - share : low + share; };
    const scale = ([least, most], from, to) => (y) => from + (to - from) * (y - least) / (most - least);
    const leftLimits = this.limits("left"), rightLimits = this.limits("right");
    const headroom = this.headroom(leftLimits, split - top);
    this.toY = scale(leftLimits, split, top + headroom);
    const toRight = scale(rightLimits, split, top + headroom);
    this.axes(leftLimits, rightLimits, toRight, right > 20, hangs, width);
    const inner = svg("g", { "clip-path": `url(#${clip})` }, this.plot);
    const order = { area: 0, sticks: 1, line: 2, labels: 3 };
    for (const layer of [...this.shown("main")].sort((a, b) => order[a.kind] - order[b.kind]))
      this.layer(layer, inner, layer.axis === "right" ? toRight : this.toY, split);
    const hanging = scale([0, 1.08], split, bottom);
    for (const layer of this.shown("mirror")) this.layer(layer, inner, hanging, split);
    this.cursor = svg("g", {}, this.plot);
    if (this.place !== null) this.read(this.place);
  }

  /* Height above the highest value with which every label has its length above its peak. */
  headroom([least, most], height) {
    const marks = this.shown("main").find((layer) => layer.kind === "labels");
    const needs = marks ? marks.x.map((x, k) => {
      const share = (marks.y[k] - least) / (most - least);
      const isShown = x >= this.view[0] && x <= this.view[1] && share > 0;
      return isShown ? (LETTER * marks.text[k].length + 14 - (1 - share) * height) / share : 0;
    }) : [];
    return Math.min(Math.max(0, ...needs), 0.5 * height);
  }

  axes(leftLimits, rightLimits, toRight, hasRight, hangs, width) {
    const { left, right, top, bottom, split } = this.box, axes = svg("g", {}, this.plot);
    const text = (attributes, content) => svg("text", attributes, axes, content);
    for (const y of ticks(...leftLimits, (split - top) / 40)) {
      svg("line", { class: "grid", x1: left, x2: right, y1: this.toY(y), y2: this.toY(y) }, axes);
      text({ x: left - 7, y: this.toY(y) + 4, "text-anchor": "end" }, short(y));
    }
    for (const x of ticks(...this.view, (right - left) / 90)) {
      svg("line", { class: "axis", x1: this.toX(x), x2: this.toX(x), y1: bottom, y2: bottom + 5 }, axes);
      text({ x: this.toX(x), y: bottom + 18, "text-anchor": "middle" }, short(x));
    }
    if (hasRight) for (const y of ticks(...rightLimits, (split - top) / 40))
      text({ x: right + 7, y: toRight(y) + 4, class: "k-sticks" }, short(y));
    svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }, axes);
    if (hangs) svg("line", { class: "axis", x1: left, x2: right, y1: split, y2: split }, axes);
    text({ x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }, this.spec.x.label);
    const middle = (top + split) / 2;
    text({ transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }, this.spec.y.label);
    if (hasRight) text({ transform: `translate(${width - 10} ${middle}) rotate(-90)`, "text-anchor": "middle" }, this.spec.y2.label);
  }

  layer(layer, parent, toY, base) {
    const group = svg("g", { class: `k-${layer.key}`, "data-layer": layer.name }, parent);
    if (layer.kind === "line") svg("path", { class: `curve ${layer.look || ""}`, d: this.trace(layer.x, layer.y, toY) }, group);
    else if (layer.kind === "area") svg("path", { class: `shade ${layer.look || ""}`, d: this.shade(layer, toY) }, group);
    else if (layer.kind === "labels") this.marks(layer, group, toY);
    else layer.x.forEach((x, k) => {
      if (x === null || layer.y[k] === null || x < this.view[0] || x > this.view[1]) return;
      const isChosen = layer.axis === "right" && this.chosen === k;
      svg("line", { class: `stick${isChosen ? " chosen" : ""}`, x1: this.toX(x), x2: this.toX(x), y1: base, y2: toY(layer.y[k]) }, group);
      svg("circle", { class: "head", r: 2.4, cx: this.toX(x), cy: toY(layer.y[k]) }, group);
    });
  }

  /* Least and greatest value of every column of pixels, in the order of the axis. */
  columns(x, low, high) {
    const [first, last] = this.inView(x), found = [];
    for (let k = first; k < last; k++) {
      if (low[k] === null || high[k] === null) continue;
      const px = this.toX(x[k]), previous = found[found.length - 1];
      if (previous && last - first > 2 * (this.box.right - this.box.left) && Math.floor(previous[0]) === Math.floor(px)) {
        previous[1] = Math.min(previous[1], low[k]);
        previous[2] = Math.max(previous[2], high[k]);
      } else found.push([px, low[k], high[k]]);
    }
    return found;
  }

  trace(x, y, toY) {
    const points = [];
    for (const [px, low, high] of this.columns(x, y, y)) {
      points.push(`${px.toFixed(1)} ${toY(low).toFixed(1)}`);
      if (high > low) points.push(`${px.toFixed(1)} ${toY(high).toFixed(1)}`);
    }
    return points.length ? `M${points.join("L")}` : "";
  }

  shade(layer, toY) {
    const found = this.columns(layer.x, layer.low, layer.high);
    if (!found.length) return "";
    const upper = found.map(([px, , high]) => `${px.toFixed(1)} ${toY(high).toFixed(1)}`);
    const lower = found.map(([px, low]) => `${px.toFixed(1)} ${toY(low).toFixed(1)}`).reverse();
    return `M${upper.join("L")}L${lower.join("L")}Z`;
  }

  /* Upright texts, the highest first; one that would touch another is left out. */
  marks(layer, group, toY) {
    const taken = [];
    const order = layer.x.map((_, k) => k).sort((a, b) => layer.y[b] - layer.y[a]);
    for (const k of order) {
      const px = this.toX(layer.x[k]);
      if (layer.x[k] < this.view[0] || layer.x[k] > this.view[1] || taken.some((other) => Math.abs(other - px) < 13)) continue;
      taken.push(px);
      const y = Math.max(toY(layer.y[k]) - 6, this.box.top + LETTER * layer.text[k].length + 4);
      svg("text", { class: "mark", transform: `translate(${px + 4} ${y}) rotate(-90)` }, group, layer.text[k]);
    }
  }

  /* Show the values at a place, in words and as points. */
  read(x) {
    const { spec } = this, parts = [`${short(x)} ${spec.x.unit}`];
    this.place = x;
    this.cursor.replaceChildren();
    for (const layer of this.shown("main").filter((each) => each.kind === "line" && !each.unread)) {
      const k = nearest(layer.x, x);
      if (layer.y[k] === null) continue;
      const limits = layer.band ? ` (${layer.band.name}: ${short(layer.band.low[k])} to ${short(layer.band.high[k])})` : "";
      parts.push(`${layer.name} ${short(layer.y[k])} ${spec.y.unit}${limits}`);
      svg("circle", { class: `head k-${layer.key}`, r: 3, cx: this.toX(layer.x[k]), cy: this.toY(layer.y[k]) }, this.cursor);
    }
    for (const layer of this.shown("main").filter((each) => each.kind === "sticks" || each.kind === "labels")) {
      const k = this.pick(layer, x);
      if (k !== null) parts.push(layer.kind === "labels" ? layer.text[k] : `${layer.name} ${short(layer.x[k])} ${spec.x.unit}, ${short(layer.y[k])} ${layer.unit || ""}`);
    }
    svg("line", { class: "cursor", x1: this.toX(x), x2: this.toX(x), y1: this.box.top, y2: this.box.bottom }, this.cursor);
    this.reading.textContent = parts.join(" · ");
  }

  /* The stick or label near a place, if any. */
  pick(layer, x) {
    let best = null, least = REACH;
    layer.x.forEach((each, k) => {
      const apart = each === null ? Infinity : Math.abs(this.toX(each) - this.toX(x));
      if (apart < least) { least = apart; best = k; }
    });
    return best;
  }

  choose(k) {
    this.chosen = k;
    this.draw();
  }

  click(x) {
    const sticks = this.shown("main").find((layer) => layer.axis === "right");
    const k = sticks && this.onPick ? this.pick(sticks, x) : null;
    if (k !== null) { this.choose(k); this.onPick(k); }
  }
}

"use strict";
/* Pointer, wheel and keys on a chart. */

const DRAGGED = 6;             // pixels that make a click a drag

function listen(chart) {
  let start = null;
  const { plot } = chart;
  const at = (event) => {
    const frame = plot.getBoundingClientRect();
    const px = (event.clientX - frame.left) * plot.viewBox.baseVal.width / frame.width;
    return Math.min(Math.max(px, chart.box.left), chart.box.right);
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    chart.read(chart.fromX(at(event)));
    if (start !== null) brush(chart, start, at(event));
  });
  plot.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const ends = [chart.fromX(start), chart.fromX(at(event))].sort((a, b) => a - b);
    const dragged = Math.abs(at(event) - start) > DRAGGED;
    start = null;
    if (dragged) chart.zoom(...ends); else chart.click(ends[0]);
  });
  plot.addEventListener("pointercancel", () => { start = null; });
  plot.addEventListener("dblclick", () => chart.zoom(...chart.full));
  plot.addEventListener("wheel", (event) => {
    const isWhole = chart.view[1] - chart.view[0] >= chart.full[1] - chart.full[0];
    if (event.deltaY > 0 && isWhole) return;  // nothing beyond: the page scrolls
    event.preventDefault();
    chart.zoomBy(event.deltaY > 0 ? 1.25 : 0.8, chart.fromX(at(event)));
  }, { passive: false });
  plot.addEventListener("keydown", (event) => press(chart, event));
}

function brush(chart, start, end) {
  const { top, bottom } = chart.box;
  svg("rect", { class: "brush", x: Math.min(start, end), width: Math.abs(end - start),
    y: top, height: bottom - top }, chart.cursor);
}

function press(chart, event) {
  const [low, high] = chart.view, width = high - low, middle = chart.place ?? (low + high) / 2;
  const forward = (chart.spec.x.reversed ? -1 : 1) * width * (event.shiftKey ? 0.1 : 0.01);
  const move = (by) => event.shiftKey ? chart.zoom(low + by, high + by)
    : chart.read(Math.min(Math.max(middle + by, low), high));
  const actions = {
    ArrowRight: () => move(forward), ArrowLeft: () => move(-forward),
    "+": () => chart.zoomBy(0.8, middle), "=": () => chart.zoomBy(0.8, middle),
    "-": () => chart.zoomBy(1.25, middle), 0: () => chart.zoom(...chart.full),
    Escape: () => chart.zoom(...chart.full), Enter: () => chart.click(middle),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

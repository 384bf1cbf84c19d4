"use strict";
/* Puts the data of the page into charts and viewer. */

function spectra(data, viewer) {
  const section = document.getElementById("spectrum"), host = section.querySelector(".chart");
  if (!data.spectra.length) return;
  section.hidden = false;
  const tabs = section.querySelector(".tabs");
  const open = (k) => {
    const spec = data.spectra[k];
    const line = spec.layers.find((layer) => layer.key === "line");
    line.band = spec.layers.find((layer) => layer.key === "band");
    [...tabs.children].forEach((tab, n) => {
      tab.setAttribute("aria-selected", String(n === k));
      tab.tabIndex = n === k ? 0 : -1;
    });
    const pick = (mode) => {
      if (viewer && viewer.drawing && viewer.modes) viewer.showMode(mode);
    };
    section.chart = new Chart(host, { ...spec, y: { ...spec.y, zero: true } }, pick);
  };
  data.spectra.forEach((spec, k) => {
    const tab = html("button", { type: "button", role: "tab" }, tabs, spec.title);
    tab.addEventListener("click", () => open(k));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const next = (k + by + data.spectra.length) % data.spectra.length;
      open(next);
      tabs.children[next].focus();
    });
  });
  tabs.hidden = data.spectra.length < 2;
  open(0);
}

function seriesSpec(series, chart, chosen) {
  const layers = [], x = series.times;
  chart.mean.forEach((y, k) => {
    const key = String(k % 8), isChosen = k === chosen;
    const line = { key, name: `replica ${k}`, kind: "line", x, y, unlisted: true, unread: !isChosen, look: isChosen ? "bold" : "faint" };
    if (isChosen) {
      line.band = { key, name: "range", kind: "area", x, low: chart.low[k], high: chart.high[k], unlisted: true, look: "soft" };
      layers.unshift(line.band);
    }
    layers.push(line);
  });
  const unit = chart.unit;
  return {
    title: chart.name, height: 220, layers, range: series.range,
    x: { label: "time / ps", unit: "ps" }, y: { label: unit ? `${chart.name} / ${unit}` : chart.name, unit },
  };
}

function dynamics(series) {
  if (!series) return;
  const select = document.getElementById("series-replica"), host = document.querySelector("#series .charts");
  document.getElementById("series").hidden = false;
  for (let k = 0; k < series.n_replicas; k++) select.append(new Option(k, k));
  const draw = () => {
    host.replaceChildren();
    for (const chart of series.charts) new Chart(html("div", {}, host), seriesSpec(series, chart, Number(select.value)));
  };
  select.addEventListener("change", draw);
  draw();
}

/* On paper nothing can be opened. */
function openForPrint() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }));
}

(function begin() {
  const data = JSON.parse(document.getElementById("data").textContent);
  let viewer = null;
  if (data.trajectory || data.modes) {
    document.getElementById("viewer").hidden = false;
    viewer = new Viewer(data.trajectory, data.modes);
  }
  spectra(data, viewer);
  dynamics(data.series);
  openForPrint();
})();

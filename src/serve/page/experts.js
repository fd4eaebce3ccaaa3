// The pane of experts: what works now or for one token, what is changed, and how it went.

import * as api from "./api.js";
import {button, byId, color, el, prepare} from "./dom.js";
import {HeatMap} from "./heatmap.js";
import * as settings from "./settings.js";

const KEPT = 60; // events in the charts
const KEEP = 0.75; // of the picture before, per event

const map = new HeatMap(byId("heatmap"));
const changes = new Map(); // "row,expert" -> {row, expert, kind: "off" | "boosted", value}
let live = []; // [layers][experts] use, 1 as with an even router
let token = null; // that is shown in place of what works now

// ---- what works ----

// Values of a picture: an even router's use is a quarter of the scale.
const shade = (use) => Math.min(1, use / 4);

function showLive() {
  map.values = live.map((row) => row.map(shade));
  map.draw();
}

function countIn(event) {
  event.counts.forEach((row, i) => {
    const even = row.reduce((sum, n) => sum + n, 0) / row.length;
    if (even) row.forEach((n, e) => { live[i][e] = KEEP * live[i][e] + (1 - KEEP) * n / even; });
  });
  if (!token) showLive();
}

function showTable() {
  const body = byId("token").tBodies[0];
  byId("token").hidden = !token;
  byId("no-token").hidden = !!token;
  body.replaceChildren(...(token?.experts ?? []).map((experts, row) => {
    const list = experts.map((e, j) => `${e} (${token.weights[row][j].toFixed(2)})`);
    return el("tr", {}, el("td", {}, map.layers[row]?.layer ?? row), el("td", {}, list.join(", ")));
  }));
}

// Show which experts a token had; null: what works now.
export function showToken(of) {
  token = of?.experts ? of : null;
  byId("shown").textContent = token ? "For a token, by weight" : "Now, by use";
  showTable();
  if (!token) {
    showLive();
    return;
  }
  map.values = map.layers.map((layer, row) => {
    const values = new Float32Array(layer.experts);
    const most = Math.max(...token.weights[row], 1e-9);
    token.experts[row].forEach((e, j) => { values[e] = 0.15 + 0.85 * token.weights[row][j] / most; });
    return values;
  });
  map.draw();
}

// ---- one expert, and changes ----

const chosen = () => ({row: byId("layer").selectedIndex, expert: Number(byId("expert").value)});
const nameOf = ({row, expert}) => `Layer ${map.layers[row].layer}, expert ${expert}`;

function describe() {
  const {row, expert} = chosen();
  if (!map.layers[row] || !(expert in live[row])) return;
  byId("expert").max = map.layers[row].experts - 1;
  map.cursor = {row, expert};
  map.draw();
  const change = changes.get(`${row},${expert}`);
  const how = !change ? "as usual" : change.kind === "off" ? "off" : `boosted by ${change.value}`;
  const text = `${nameOf({row, expert})}: ${live[row][expert].toFixed(2)} of an even share, ${how}.`;
  if (byId("about").textContent !== text) byId("about").textContent = text;
}

function listChanges() {
  map.marks = new Map([...changes].map(([where, c]) => [where, c.kind]));
  byId("no-changes").hidden = changes.size > 0;
  byId("changes").replaceChildren(...[...changes].map(([where, c]) => el("li", {},
    `${nameOf(c)}: ${c.kind === "off" ? "off" : `boosted by ${c.value}`}`,
    button("Undo", () => { changes.delete(where); listChanges(); },
           {"aria-label": `Undo: ${nameOf(c)}`}))));
  describe();
}

function change(kind) {
  const {row, expert} = chosen(), where = `${row},${expert}`;
  if (!map.layers[row] || !(expert >= 0 && expert < map.layers[row].experts)) return;
  if (kind) changes.set(where, {row, expert, kind, value: Number(byId("amount").value) || 0});
  else changes.delete(where);
  listChanges();
}

// The changes as policies of a request: experts of a layer that change alike are one.
export function policies() {
  const groups = new Map();
  for (const c of changes.values()) {
    const layer = map.layers[c.row].layer;
    const rest = c.kind === "off" ? "" : `,value=${c.value}`;
    const key = `layers=${layer}${rest}`;
    const name = c.kind === "off" ? "mask" : "bias";
    groups.set(`${name} ${key}`, [...(groups.get(`${name} ${key}`) ?? []), c.expert]);
  }
  const own = [...groups].map(([key, experts]) => {
    const [name, rest] = key.split(" ");
    return `${name}:experts=${experts.join("+")},${rest}`;
  });
  return [...own, ...settings.policies()];
}

// ---- over time ----

const series = {load: [], entropy: [], hits: []};

function drawSeries(name, low, high) {
  const canvas = byId(name), values = series[name];
  if (!canvas.clientWidth || !values.length) return;
  const {pen, width, height} = prepare(canvas, 48);
  const top = Math.max(high, ...values), y = (v) => 2 + (height - 4) * (1 - (v - low) / (top - low));
  pen.strokeStyle = color("--line");
  pen.strokeRect(0.5, 0.5, width - 1, height - 1);
  pen.strokeStyle = color("--c0");
  pen.lineWidth = 1.5;
  pen.beginPath();
  values.forEach((v, i) => pen.lineTo(width * (KEPT - values.length + i + 1) / KEPT, y(v)));
  pen.stroke();
  canvas.setAttribute("aria-label", `${name}, now ${values.at(-1).toFixed(2)}`);
}

const mean = (list) => list.reduce((sum, v) => sum + v, 0) / Math.max(1, list.length);

function note(name, value) {
  series[name].push(value);
  if (series[name].length > KEPT) series[name].shift();
}

function drawTime() {
  drawSeries("load", 1, 2);
  drawSeries("entropy", 0, 1);
  drawSeries("hits", 0, 1);
}

let clock = performance.now();

function tell(event) {
  const now = performance.now(), seconds = (now - clock) / 1000;
  clock = now;
  const figures = {
    "tokens/s": seconds > 2 ? "-" : (event.tokens / seconds).toFixed(0),
    replies: event.running, waiting: event.waiting,
    load: mean(event.load).toFixed(2), entropy: mean(event.entropy).toFixed(3),
  };
  if (event.store) {
    const asked = event.store.hits + event.store.misses;
    byId("hits-figure").hidden = false;
    if (asked) note("hits", event.store.hits / asked);
    figures["cache hits"] = asked ? `${(100 * event.store.hits / asked).toFixed(0)}%` : "-";
  }
  byId("figures").replaceChildren(...Object.entries(figures).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, `${value}`))));
  note("load", mean(event.load));
  note("entropy", mean(event.entropy));
  drawTime();
}

// ---- the stream ----

function begin(event) {
  live = event.layers.map((layer) => new Float32Array(layer.experts));
  map.open(event.layers);
  byId("layer").replaceChildren(...event.layers.map((l) => el("option", {}, `${l.layer}`)));
  byId("cell").disabled = !event.layers.length;
  for (const [where, c] of changes)
    if (!(c.expert < event.layers[c.row]?.experts)) changes.delete(where);
  listChanges();
}

async function watch(signal) {
  const model = settings.model(), which = model ? `&model=${encodeURIComponent(model)}` : "";
  const response = await api.call(`/v1/junto/routing?interval=150${which}`, {signal});
  for await (const event of api.events(response)) {
    if (event.layers) begin(event);
    countIn(event);
    if (!event.layers) {
      tell(event);
      describe();
    }
  }
}

export async function open() {
  byId("off").addEventListener("click", () => change("off"));
  byId("boost").addEventListener("click", () => change("boosted"));
  byId("usual").addEventListener("click", () => change(null));
  byId("layer").addEventListener("change", describe);
  byId("expert").addEventListener("input", describe);
  new ResizeObserver(drawTime).observe(byId("load"));
  map.canvas.addEventListener("click", (event) => {
    const cell = map.at(event);
    if (!cell) return;
    byId("layer").selectedIndex = cell.row;
    byId("expert").value = cell.expert;
    describe();
  });
  let other = new AbortController(); // another model
  byId("models").addEventListener("change", () => {
    changes.clear();
    other.abort();
    other = new AbortController();
  });
  for (;;) { // until the server is back, or the model loaded
    await watch(other.signal).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

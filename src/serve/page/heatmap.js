// Layers x experts as a picture. Cells have a value of 0 .. 1 and may be marked.

import {color, prepare} from "./dom.js";

const LEFT = 30; // pixels for the numbers of layers

function parse(hex) {
  const full = hex.length === 4 ? hex.replace(/\w/g, "$&$&") : hex;
  return [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16));
}

const STEPS = 32;

export class HeatMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.layers = []; // [{layer, experts}]
    this.values = []; // [layers][experts]
    this.marks = new Map(); // "row,expert" -> "off" | "boosted"
    this.cursor = null; // {row, expert}
    this.pending = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  open(layers) {
    this.layers = layers;
    this.values = layers.map((layer) => new Float32Array(layer.experts));
    this.draw();
  }

  // Many changes, one picture.
  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.paint();
    });
  }

  get most() {
    return Math.max(1, ...this.layers.map((layer) => layer.experts));
  }

  get rowHeight() {
    return Math.max(7, Math.min(22, Math.floor(460 / Math.max(1, this.layers.length))));
  }

  paint() {
    const {layers, rowHeight, canvas} = this;
    if (!canvas.clientWidth) return;
    const {pen, width} = prepare(canvas, Math.max(1, layers.length) * rowHeight + 2);
    const cell = (width - LEFT) / this.most, gap = cell > 6 ? 1 : 0;
    const few = parse(color("--few")), many = parse(color("--many"));
    const palette = Array.from({length: STEPS + 1}, (_, i) =>
      `rgb(${few.map((low, c) => Math.round(low + (many[c] - low) * i / STEPS)).join()})`);
    pen.font = `${Math.min(11, rowHeight)}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    layers.forEach((layer, row) => {
      const y = row * rowHeight + 1;
      if (row % Math.ceil(11 / rowHeight) === 0) {
        pen.fillStyle = color("--soft");
        pen.fillText(layer.layer, LEFT - 6, y + rowHeight / 2);
      }
      this.values[row].forEach((value, expert) => {
        pen.fillStyle = palette[Math.round(Math.sqrt(Math.min(1, value)) * STEPS)];
        pen.fillRect(LEFT + expert * cell, y, Math.max(1, cell - gap), rowHeight - gap);
      });
    });
    const frame = (row, expert, stroke, thick) => {
      pen.strokeStyle = stroke;
      pen.lineWidth = thick;
      pen.strokeRect(LEFT + expert * cell + 0.5, row * rowHeight + 1.5,
                     Math.max(2, cell - gap - 1), rowHeight - gap - 1);
    };
    for (const [where, mark] of this.marks) {
      const [row, expert] = where.split(",").map(Number);
      frame(row, expert, color(mark === "off" ? "--off" : "--c1"), 2);
    }
    if (this.cursor) frame(this.cursor.row, this.cursor.expert, color("--ink"), 1.5);
  }

  // The cell at a place of the screen, or null.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - 1) / this.rowHeight);
    const expert = Math.floor((event.clientX - box.left - LEFT) * this.most / (box.width - LEFT));
    const inside = row >= 0 && row < this.layers.length && expert >= 0
      && expert < this.layers[row].experts;
    return inside ? {row, expert} : null;
  }
}

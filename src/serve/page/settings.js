// How replies are asked for. The form is the settings; the browser keeps them.

import {byId} from "./dom.js";

const KEY = "junto.settings";
const USUAL = {mode: "chat", max_tokens: "512"};
const form = byId("settings").querySelector("form");

export function open() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch { /* as new */ }
  for (const [name, value] of Object.entries({...USUAL, ...kept}))
    if (form.elements[name]) form.elements[name].value = value;
  form.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(new FormData(form))));
    } catch { /* they last as long as the page */ }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

// Which of several models; undefined: there is one.
export const model = () => byId("models").value || undefined;

const text = (name) => form.elements[name].value.trim();
const number = (name) => (text(name) === "" ? undefined : Number(text(name)));

export const mode = () => text("mode");
export const system = () => text("system");
export const policies = () => text("policies").split("\n").map((p) => p.trim()).filter(Boolean);

// Fields of a request. A seed is always given, so that a reply can be had again.
export const sampling = () => ({
  model: model(),
  max_tokens: number("max_tokens"), temperature: number("temperature"), top_p: number("top_p"),
  seed: number("seed") ?? Math.floor(Math.random() * 2 ** 31),
});

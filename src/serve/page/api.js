// The server: JSON, and streams of events.

import {byId} from "./dom.js";

const KEY = "junto.key"; // of this tab only

export class Problem extends Error {}

function headers(body) {
  const key = sessionStorage.getItem(KEY), given = {};
  if (key) given.Authorization = `Bearer ${key}`;
  if (body) given["Content-Type"] = "application/json";
  return given;
}

function askForKey() {
  const dialog = byId("key-dialog");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, byId("key").value);
      resolve();
    }, {once: true});
    dialog.showModal();
  });
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(body.error?.message ?? `The server answered ${response.status}.`);
}

export async function call(path, {body, signal} = {}) {
  for (;;) {
    const response = await fetch(path, {
      method: body ? "POST" : "GET", headers: headers(body), signal,
      body: body && JSON.stringify(body),
    });
    if (response.ok) return response;
    if (response.status !== 401) throw await problemOf(response);
    await askForKey();
  }
}

export const get = async (path) => (await call(path)).json();

// The data of each event, as it comes.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts)
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
  }
}

// A reply, told piece by piece to `hear`: {text, thought, tokens, prompt}. Gives the
// reason of its end.
export async function reply(path, body, signal, hear) {
  const response = await call(path, {signal, body: {...body, stream: true}});
  let finish = null;
  for await (const event of events(response)) {
    if (event.error) throw new Problem(event.error.message);
    if (event.junto?.prompt) hear({prompt: event.junto.prompt});
    for (const choice of event.choices) {
      const text = choice.text ?? choice.delta?.content;
      if (choice.delta?.reasoning_content) hear({thought: choice.delta.reasoning_content});
      if (text) hear({text});
      if (choice.junto?.tokens.length) hear({tokens: choice.junto.tokens});
      finish = choice.finish_reason ?? finish;
    }
  }
  if (!finish) throw new Problem("The reply broke off.");
  return finish;
}

// A reply written once more from a token on: as the model is, and with the changes, side
// by side. Both have the same seed and run at the same time.

import * as api from "./api.js";
import {button, el} from "./dom.js";
import * as experts from "./experts.js";
import * as settings from "./settings.js";
import {textOf, view} from "./tokens.js";

function side(title) {
  const text = el("div", {class: "tokens"}), node = el("div", {}, el("h3", {}, title), text);
  return {node, text, written: "", tokens: [], done: false};
}

// The first token from which on two lists differ.
function parting(a, b) {
  let i = 0;
  while (i < a.length && i < b.length && a[i].id === b[i].id) i++;
  return i;
}

function showTokens(own, other) {
  const from = parting(own.tokens, other.tokens);
  const list = view(own.tokens, {mark: (i) => (i >= from ? "other" : "")});
  const rest = own.written.slice(textOf(own.tokens).length); // was sampled, not run
  if (rest) list.append(el("span", {}, rest));
  own.text.replaceWith(list);
  own.text = list;
}

async function write(own, prompt, policy, seed, signal) {
  const body = {...settings.sampling(), seed, prompt, junto: {trace: true, policy}};
  await api.reply("/v1/completions", body, signal, ({text, tokens}) => {
    if (text) own.text.textContent = own.written += text;
    if (tokens) own.tokens.push(...tokens);
  });
  own.done = true;
}

// `message` has tokens and the prompt before them; `keep(text)` takes one of the texts.
export function compare(message, from, keep) {
  const kept = message.tokens.slice(0, from), policy = experts.policies();
  const before = textOf(kept), stop = new AbortController();
  const prompt = [...message.prompt, ...kept.map((t) => t.id)];
  const seed = settings.sampling().seed;
  const left = side("As the model is"), right = side(policy.length ? "With the changes" : "No changes yet");
  const state = el("p", {class: "soft", role: "status"}, "Writing both ..");
  const close = () => {
    stop.abort();
    node.remove();
  };
  const choose = (own) => () => {
    close();
    keep(before + own.written);
  };
  const node = el("section", {class: "compare", "aria-label": "Two texts side by side"},
    el("p", {class: "soft"}, policy.length ? `Changes: ${policy.join("; ")}`
      : "Switch an expert off or boost it, in the pane of experts, and compare again."),
    from ? el("p", {class: "past tokens"}, before) : null,
    el("div", {class: "sides"}, left.node, right.node), state,
    el("div", {class: "actions"}, button("Keep the left", choose(left)),
       button("Keep the right", choose(right)), button("Close", close)));
  const texts = Promise.all([write(left, prompt, [], seed, stop.signal),
                             write(right, prompt, policy, seed, stop.signal)]);
  texts.then(() => {
    showTokens(left, right);
    showTokens(right, left);
    state.textContent = left.written === right.written ? "Both are the same."
      : `They part after ${parting(left.tokens, right.tokens)} tokens.`;
  }, (problem) => {
    stop.abort();
    if (problem.name !== "AbortError") state.textContent = problem.message;
  });
  return node;
}

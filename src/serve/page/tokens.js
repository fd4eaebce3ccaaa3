// The tokens of a reply, one by one: point at one, or walk over them with the arrow keys,
// to see its experts.

import {el} from "./dom.js";
import {showToken} from "./experts.js";

// The text of each token: characters that several share belong to the last of them.
export function texts(tokens) {
  const decoder = new TextDecoder(), encoder = new TextEncoder();
  return tokens.map((t) => decoder.decode(t.bytes ? new Uint8Array(t.bytes) : encoder.encode(t.text),
                                          {stream: true}));
}

export const textOf = (tokens) => texts(tokens).join("");

function label(token, text) {
  const experts = token.experts.map((row) => row.join(" ")).join("; ");
  return `${text.trim() || "space"}: experts ${experts}`;
}

// A text whose tokens are buttons (spans, so that lines break as they would); `choose(i)`
// is called with that which was pressed. `mark(i)` may give a class.
export function view(tokens, {choose, mark = () => ""} = {}) {
  const node = el("div", {class: "tokens", role: "group", "aria-label": "Tokens"});
  texts(tokens).forEach((text, i) => {
    const show = () => showToken(tokens[i]);
    node.append(el("span", {
      role: "button", tabindex: i ? "-1" : "0", class: mark(i), "aria-label": label(tokens[i], text),
      onclick: () => choose?.(i), onmouseenter: show, onfocus: show,
    }, text));
  });
  node.addEventListener("mouseleave", () => showToken(null));
  node.addEventListener("focusout", () => showToken(null));
  node.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity}[event.key];
    const list = [...node.children], at = list.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose?.(at);
    }
    if (!step) return;
    const next = list[Math.max(0, Math.min(list.length - 1, at + step))];
    list[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
  });
  return node;
}

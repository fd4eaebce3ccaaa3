// Markdown as elements: what models write, and no HTML.

import {button, copy, el} from "./dom.js";

const SPAN = /(`+)([^`]|[^`][^]*?[^`])\1(?!`)|\*\*(\S(?:[^]*?\S)?)\*\*|__(\S(?:[^]*?\S)?)__|\*(\S(?:[^*]*?\S)?)\*|(?<!\w)_(\S(?:[^_]*?\S)?)_(?!\w)|~~(\S[^~]*?)~~|\[([^\]]+)\]\(([^)\s]+)\)|(https?:\/\/[^\s<>)\]]+)/;

function link(href, ...children) {
  return /^(https?:\/\/|mailto:)/i.test(href)
    ? el("a", {href, rel: "noopener noreferrer", target: "_blank"}, ...children)
    : el("span", {}, ...children);
}

function spans(text) {
  const nodes = [];
  for (let found; (found = SPAN.exec(text)); text = text.slice(found.index + found[0].length)) {
    const [, , code, strong, strong2, em, em2, gone, label, target, url] = found;
    if (found.index) nodes.push(text.slice(0, found.index));
    if (code != null) nodes.push(el("code", {}, code.trim() || code));
    else if (strong ?? strong2) nodes.push(el("strong", {}, ...spans(strong ?? strong2)));
    else if (em ?? em2) nodes.push(el("em", {}, ...spans(em ?? em2)));
    else if (gone) nodes.push(el("del", {}, ...spans(gone)));
    else if (label) nodes.push(link(target, ...spans(label)));
    else nodes.push(link(url, url));
  }
  if (text) nodes.push(text);
  return nodes;
}

function codeBlock(lines) {
  const text = lines.join("\n");
  return el("pre", {tabindex: "0"}, el("code", {}, text), button("Copy", () => copy(text)));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((c) => c.trim());

function table(lines) {
  const row = (line, name) => el("tr", {}, ...cells(line).map((c) => el(name, {}, ...spans(c))));
  return el("table", {tabindex: "0"}, el("thead", {}, row(lines[0], "th")),
            el("tbody", {}, ...lines.slice(2).map((line) => row(line, "td"))));
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

// Items with at least the indent of the first; deeper ones are lists of their own.
function list(lines) {
  const [, indent, mark] = ITEM.exec(lines[0]);
  const node = /\d/.test(mark) ? el("ol", {start: parseInt(mark, 10)}) : el("ul");
  for (let at = 0; at < lines.length;) {
    const body = [ITEM.exec(lines[at])[3]];
    for (at++; at < lines.length; at++) {
      const item = ITEM.exec(lines[at]);
      if (item && item[1].length <= indent.length) break;
      body.push(lines[at].slice(Math.min(indent.length + 2, lines[at].search(/\S|$/))));
    }
    const inner = blocks(body);
    const first = inner[0];
    if (first?.tagName === "P") inner.splice(0, 1, ...first.childNodes);
    node.append(el("li", {}, ...inner));
  }
  return node;
}

// How many lines from `at` on are for which `test` holds.
function count(lines, at, test) {
  let n = 0;
  while (at + n < lines.length && test(lines[at + n], n)) n++;
  return n;
}

function block(lines, at) {
  const line = lines[at], heading = /^(#{1,6})\s+(.*)$/.exec(line);
  const fence = /^\s*(`{3,}|~{3,})/.exec(line);
  if (fence) {
    const n = count(lines, at + 1, (l) => !l.trim().startsWith(fence[1]));
    return [codeBlock(lines.slice(at + 1, at + 1 + n)), n + 2];
  }
  if (heading) return [el(`h${Math.min(6, heading[1].length + 2)}`, {}, ...spans(heading[2])), 1];
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) return [el("hr"), 1];
  if (/^\s*>/.test(line)) {
    const n = count(lines, at, (l) => /^\s*>/.test(l));
    const inner = lines.slice(at, at + n).map((l) => l.replace(/^\s*> ?/, ""));
    return [el("blockquote", {}, ...blocks(inner)), n];
  }
  if (ITEM.test(line)) {
    const n = count(lines, at, (l, i) => ITEM.test(l) || (l.trim() && (/^\s/.test(l) || i === 0)));
    return [list(lines.slice(at, at + n)), n];
  }
  if (line.includes("|") && /^[\s|:-]+$/.test(lines[at + 1] ?? "") && /-/.test(lines[at + 1])) {
    const n = count(lines, at, (l) => l.includes("|"));
    return [table(lines.slice(at, at + n)), n];
  }
  const n = count(lines, at, (l, i) => l.trim() && (i === 0 || !/^(#{1,6}\s|\s*(`{3}|~{3}|>))/.test(l)
                                                   && !ITEM.test(l)));
  const text = lines.slice(at, at + n).join("\n").split(/ {2}\n|\\\n/);
  return [el("p", {}, ...text.flatMap((t, i) => (i ? [el("br"), ...spans(t)] : spans(t)))), n];
}

function blocks(lines) {
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const [node, n] = block(lines, at);
    nodes.push(node);
    at += n;
  }
  return nodes;
}

export const markdown = (text) => blocks(text.replace(/\r\n?/g, "\n").split("\n"));

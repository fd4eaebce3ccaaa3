// The chat: messages, and the one that is being written.

import * as api from "./api.js";
import {compare} from "./compare.js";
import * as conversations from "./conversations.js";
import {button, byId, copy, el} from "./dom.js";
import * as experts from "./experts.js";
import {markdown} from "./markdown.js";
import * as settings from "./settings.js";
import {view} from "./tokens.js";

let conversation = null;
let writing = null; // AbortController of the reply in progress
let changed = () => {}; // the list of conversations wants to know

const messagesNode = byId("messages");
const say = (text) => { byId("state").textContent = text; };

// ---- a message ----

function thoughts(message) {
  return message.thought
    ? el("details", {class: "thought"}, el("summary", {}, "Thoughts"), el("div", {}, message.thought))
    : null;
}

function body(message) {
  if (message.role === "user") return el("div", {class: "body"}, message.content);
  return el("div", {class: "body"}, thoughts(message), ...markdown(message.content));
}

function edit(index, node) {
  const message = conversation.messages[index];
  const area = el("textarea", {rows: "4", "aria-label": "Edit the message"});
  area.value = message.content;
  const send = () => {
    message.content = area.value;
    conversation.messages.length = index + 1;
    reply();
  };
  node.replaceChildren(el("div", {class: "edit"}, area, el("div", {class: "actions"},
    button("Send", send), button("Cancel", show))));
  area.focus();
}

// Below the reply: its tokens, from any of which it can be written anew.
function showTokens(message, node) {
  const old = node.querySelector(":scope > .of-tokens");
  if (old) {
    old.remove();
    return;
  }
  const place = el("div", {class: "of-tokens"});
  const keep = (text) => {
    message.content = text;
    delete message.tokens;
    delete message.thought;
    conversations.save();
    show();
  };
  const start = (from) => {
    place.querySelector(".compare")?.remove();
    place.querySelector(".from")?.classList.remove("from");
    place.querySelector(".tokens").children[from]?.classList.add("from");
    const texts = compare(message, from, keep);
    place.append(texts);
    texts.scrollIntoView({block: "nearest"});
  };
  place.append(el("p", {class: "soft"}, "Point at a token to see its experts; press it to write "
    + "the text anew from there, with the changes and without."),
    view(message.tokens, {choose: start}),
    el("div", {class: "actions"}, button("Compare from the start", () => start(0))));
  node.append(place);
}

function actions(message, index, node) {
  const list = [button("Copy", () => copy(message.content))];
  if (message.role === "user") list.push(button("Edit", () => edit(index, node)));
  else list.push(button("Regenerate", () => {
    conversation.messages.length = index;
    reply();
  }));
  if (message.tokens?.length) list.push(button("Tokens", () => showTokens(message, node)));
  return el("div", {class: "actions"}, ...list);
}

function item(message, index) {
  const user = message.role === "user";
  const node = el("li", {class: user ? "user" : "assistant"},
    el("p", {class: "who"}, user ? "You" : "Model"), body(message));
  if (message.error) node.append(el("p", {class: "error"}, message.error));
  if (!message.writing) node.append(actions(message, index, node));
  return node;
}

export function show() {
  messagesNode.replaceChildren(...conversation.messages.map(item));
  byId("send").hidden = !!writing;
  byId("stop").hidden = !writing;
}

// ---- writing ----

const atEnd = () => messagesNode.scrollHeight - messagesNode.scrollTop - messagesNode.clientHeight < 60;

// One picture per frame, however many pieces come.
function follower(message) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      if (!message.writing) return;
      const follow = atEnd();
      messagesNode.lastElementChild.replaceWith(item(message, conversation.messages.length - 1));
      if (follow) messagesNode.scrollTop = messagesNode.scrollHeight;
    });
  };
}

function request() {
  const earlier = conversation.messages.slice(0, -1), text = settings.mode() === "text";
  const common = {...settings.sampling(), junto: {trace: true, policy: experts.policies()}};
  if (text) return ["/v1/completions", {...common, prompt: earlier.map((m) => m.content).join("")}];
  const messages = earlier.map(({role, content}) => ({role, content}));
  if (settings.system()) messages.unshift({role: "system", content: settings.system()});
  return ["/v1/chat/completions", {...common, messages}];
}

async function reply() {
  writing?.abort();
  const own = writing = new AbortController();
  const message = {role: "assistant", content: "", tokens: [], writing: true};
  const mine = conversation;
  mine.messages.push(message);
  show();
  messagesNode.scrollTop = messagesNode.scrollHeight;
  say("Writing ..");
  const follow = follower(message);
  let end;
  try {
    const [path, fields] = request();
    const finish = await api.reply(path, fields, own.signal, ({text, thought, tokens, prompt}) => {
      if (text) message.content += text;
      if (thought) message.thought = (message.thought ?? "") + thought;
      if (tokens) message.tokens.push(...tokens);
      if (prompt) message.prompt = prompt;
      follow();
    });
    end = finish === "length" ? "Ended: no more tokens were allowed." : "Done.";
  } catch (problem) {
    end = problem.name === "AbortError" ? "Stopped." : "The reply failed.";
    if (problem.name !== "AbortError") message.error = problem.message;
  }
  delete message.writing;
  if (writing === own) writing = null;
  if (!conversations.save()) end += " This browser does not keep it.";
  if (conversation === mine) show();
  say(end);
  changed();
}

function send() {
  const words = byId("words").value;
  if (!words.trim() || writing) return;
  byId("words").value = "";
  conversation.messages.push({role: "user", content: words});
  reply();
}

export function stop() {
  writing?.abort();
}

export function turnTo(other) {
  stop();
  conversation = other;
  say("");
  show();
  messagesNode.scrollTop = messagesNode.scrollHeight;
}

export const current = () => conversation;

export function open(onChange) {
  changed = onChange;
  byId("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("words").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  byId("stop").addEventListener("click", stop);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
  });
}

// Conversations, kept in this browser and nowhere else.

const KEY = "junto.conversations";

const kept = (() => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
})();

// What is known of tokens is large, and stays in memory.
const plain = ({role, content, thought}) => ({role, content, ...(thought && {thought})});

export const all = () => kept;

export function save() {
  const list = kept.map((c) => ({...c, messages: c.messages.map(plain)}));
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
    return true;
  } catch {
    return false; // full, or not allowed: they last as long as the page
  }
}

export function start() {
  const fresh = kept.find((c) => c.messages.length === 0);
  if (fresh) return fresh;
  const conversation = {id: Date.now().toString(36), messages: []};
  kept.unshift(conversation);
  return conversation;
}

export function remove(conversation) {
  kept.splice(kept.indexOf(conversation), 1);
  save();
}

export const title = (conversation) =>
  conversation.messages[0]?.content.slice(0, 60) || "New conversation";

export const asText = (conversation) =>
  conversation.messages.map((m) => `**${m.role}**\n\n${m.content}\n`).join("\n");

export const asJson = (conversation) =>
  JSON.stringify({messages: conversation.messages.map(plain)}, null, 2);

// The page: its panes, and the list of conversations.

import * as api from "./api.js";
import * as chat from "./chat.js";
import * as conversations from "./conversations.js";
import {button, byId, download, el} from "./dom.js";
import * as experts from "./experts.js";
import * as settings from "./settings.js";

function turnTo(conversation) {
  chat.turnTo(conversation);
  listAll();
}

function listAll() {
  byId("conversations").replaceChildren(...conversations.all().map((c) => {
    const title = conversations.title(c), here = c === chat.current();
    const remove = () => {
      conversations.remove(c);
      turnTo(here ? conversations.all()[0] ?? conversations.start() : chat.current());
    };
    const open = () => {
      turnTo(c);
      view("chat");
    };
    return el("li", {}, button(title, open, {class: "name", "aria-current": here && "true"}),
              button("×", remove, {"aria-label": `Delete: ${title}`}));
  }));
}

// On a narrow screen, one pane at a time.
function view(name) {
  document.body.dataset.view = name;
  for (const other of byId("views").children) {
    if (other.dataset.view === name) other.setAttribute("aria-current", "true");
    else other.removeAttribute("aria-current");
  }
}

async function nameModel() {
  const {data: models} = await api.get("/v1/models");
  const [model] = models, several = models.length > 1;
  byId("models").hidden = !several;
  if (several) byId("models").replaceChildren(...models.map(({id}) => el("option", {}, id)));
  else byId("model").textContent = `${model.id}, context ${model.meta?.n_ctx ?? "unknown"}`;
  document.title = several ? "Junto" : `${model.id} - Junto`;
}

settings.open();
chat.open(listAll);
turnTo(conversations.all()[0] ?? conversations.start());
byId("new").addEventListener("click", () => {
  turnTo(conversations.start());
  view("chat");
  byId("words").focus();
});
byId("export-md").addEventListener("click", () =>
  download("conversation.md", "text/markdown", conversations.asText(chat.current())));
byId("export-json").addEventListener("click", () =>
  download("conversation.json", "application/json", conversations.asJson(chat.current())));
for (const one of byId("views").children) one.addEventListener("click", () => view(one.dataset.view));
await nameModel().catch((problem) => { byId("model").textContent = problem.message; });
experts.open();

// Logs and events: what happened to replicas, and what engines printed.
import { call } from "./api.js";
import { h, moment, say, table } from "./dom.js";
import { t } from "./words.js";

const EVERY_MS = 2000;
const SHOWN = 500;

export function events(main) {
  const list = table(t("Replicas, newest first"), [[t("When")], [t("Replica")], [t("State")], [t("Message")]]);
  const which = h("select", { onchange: read });
  const lines = h("select", { onchange: read }, ["100", "500", "5000"].map((each) => h("option", {}, each)));
  const follow = h("input", { type: "checkbox", checked: true });
  const log = h("pre", { tabindex: "0", "aria-label": t("Log") });
  let last = 0;
  main.append(h("section", { class: "card", "aria-label": t("Events") }, h("h2", {}, t("Events")), list.node),
    h("section", { class: "card", "aria-label": t("Logs") }, h("h2", {}, t("Logs")), h("div", { class: "row" }, h("label", {}, t("Log of"), which), h("label", {}, t("Lines"), lines), h("label", {}, follow, t("Follow"))), log));

  async function more() {
    try {
      for (const event of await call("GET", `events?after=${last}`)) {
        last = event.number;
        list.body.prepend(h("tr", { "data-event": event.number }, h("td", {}, moment(event.at)), h("td", {}, event.replica), h("td", { class: `state ${event.state}` }, event.state), h("td", { class: "wrap" }, event.message)));
      }
      while (list.body.rows.length > SHOWN) list.body.deleteRow(-1);
      if (follow.checked) await read();
    } catch (error) { log.textContent = error.message; }
  }

  async function read() {
    if (!which.value) return;
    try {
      const told = await call("GET", `logs/${encodeURIComponent(which.value)}?lines=${lines.value}`);
      const text = told.lines.join("\n");
      if (log.textContent === text) return;
      log.textContent = text;
      if (follow.checked) log.scrollTop = log.scrollHeight;
    } catch (error) { log.textContent = error.message; }
  }

  async function start() {
    try {
      which.replaceChildren(...(await call("GET", "logs")).map((name) => h("option", {}, name)));
    } catch (error) { say(error.message); }
    more();
  }

  start();
  const timer = setInterval(more, EVERY_MS);
  return () => clearInterval(timer);
}

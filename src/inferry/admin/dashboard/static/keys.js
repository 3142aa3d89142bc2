// Keys: who may call. A key's text is shown once, when it is made.
import { call } from "./api.js";
import { confirm, copy, h, say, table } from "./dom.js";
import { now } from "./live.js";
import { t } from "./words.js";

export function keys(main) {
  const list = h("div", { class: "card" });
  const made = h("div");
  const field = (name, label, more = {}) => h("label", { class: "up" }, label, h("input", { name, autocomplete: "off", ...more }));
  const form = h("form", { class: "card", onsubmit: create }, h("h2", {}, t("New key")), h("div", { class: "row" },
    field("tenant", t("Tenant"), { required: true }), field("name", t("Name (made up if empty)")),
    h("label", { class: "up" }, t("Scope"), h("select", { name: "scope" }, ["inference", "read-only", "admin"].map((each) => h("option", {}, each)))),
    h("label", { class: "up" }, t("Deployment"), h("select", { name: "deployment" }, h("option", { value: "" }, t("all")), Object.keys(now.deployments).map((each) => h("option", {}, each)))),
    field("expires", t("Expires (30d, 12h, never)"), { placeholder: "never" }),
    field("requests_per_minute", t("Requests/min"), { type: "number", min: 1 }), field("tokens_per_day", t("Tokens/day"), { type: "number", min: 1 }), field("cost_per_month", t("Cost/month"), { type: "number", min: 0, step: "any" })),
  h("p", {}, h("button", { class: "main" }, t("Make key"))));
  main.append(form, made, list);

  function shown(key) {
    made.replaceChildren(h("section", { class: "card", role: "alert" }, h("h2", {}, `${key.tenant}/${key.name}`), h("p", {}, t("This is its text. It is shown this once:")), h("pre", { id: "new-key" }, key.key), h("button", { onclick: () => copy(key.key) }, t("Copy"))));
  }

  async function create(event) {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(form));
    const limits = {};
    for (const name of ["requests_per_minute", "tokens_per_day", "cost_per_month"]) if (given[name] !== "") limits[name] = Number(given[name]);
    const wanted = { tenant: given.tenant.trim(), name: given.name.trim(), scopes: [given.scope], expires: given.expires.trim() || "never", limits };
    if (!wanted.name) delete wanted.name;
    if (given.deployment) wanted.deployments = [given.deployment];
    try {
      shown(await call("POST", "keys", wanted));
      form.reset();
      load();
    } catch (error) { say(error.message); }
  }

  async function change(title, text, method, path, body) {
    if ((await confirm(title, text)) === null) return;
    try {
      const told = await call(method, path, body);
      if (told?.key) shown(told);
      else say(`${told.tenant}/${told.name}: ${t("done")}`);
      load();
    } catch (error) { say(error.message); }
  }

  async function load() {
    try {
      const rows = await call("GET", "keys");
      if (!rows.length) return list.replaceChildren(h("p", { class: "empty" }, t("There are no keys yet. Whether requests need one, the file says: gateway.auth.")));
      const all = table(t("All keys; their texts are nowhere."), [[t("Tenant")], [t("Name")], [t("State")], [t("Begins with")], [t("Scopes")], [t("Deployments")], [t("Limits")], [t("Expires")], [""]]);
      for (const key of rows) {
        const path = `keys/${encodeURIComponent(key.id)}`;
        const label = `${key.tenant}/${key.name}`;
        all.body.append(h("tr", { "data-key": key.id }, h("td", {}, key.tenant), h("td", {}, key.name), h("td", { class: key.state === "active" ? "ready" : "soft" }, key.state), h("td", {}, h("code", {}, key.prefix)), h("td", {}, key.scopes.join(", ")), h("td", { class: "wrap" }, key.deployments?.join(", ") ?? t("all")), h("td", { class: "wrap" }, Object.entries(key.limits).map(([name, value]) => `${name} ${value}`).join(", ") || "–"), h("td", {}, key.expires_at ?? t("never")),
          h("td", {}, h("span", { class: "row" },
            h("button", { class: "small", "aria-label": `${t("Rotate")} ${label}`, onclick: () => change(`${t("Rotate")} ${label}?`, t("It gets a new text; the old one works for another hour."), "POST", `${path}/rotate`, { grace: "1h" }) }, t("Rotate")),
            h("button", { class: "small bad", "aria-label": `${t("Revoke")} ${label}`, onclick: () => change(`${t("Revoke")} ${label}?`, t("Within a second nobody gets in with it. This can't be undone."), "DELETE", path) }, t("Revoke"))))));
      }
      list.replaceChildren(all.node);
    } catch (error) { list.replaceChildren(h("p", { class: "wrongs" }, error.message)); }
  }

  load();
}

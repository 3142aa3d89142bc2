// Usage and cost: the ledger's sums.
import { call } from "./api.js";
import { bar, h, number, save, say, table } from "./dom.js";
import { t } from "./words.js";

const DAY_S = 86400;
const FIGURES = ["requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens"];

export function usage(main) {
  const names = () => ({ day: t("day"), tenant: t("tenant"), key: t("key"), deployment: t("deployment"), model: t("model") });
  const boxes = Object.entries(names()).map(([value, label]) => {
    const box = h("input", { type: "checkbox", value, checked: ["tenant", "deployment"].includes(value), onchange: load });
    return [box, h("label", {}, box, label)];
  });
  const span = h("select", { onchange: load }, [["", t("all time")], ["today", t("today (UTC)")], ["7", t("7 days")], ["30", t("30 days")]].map(([value, label]) => h("option", { value }, label)));
  const place = h("div", { class: "card" });
  let told = null;
  main.append(h("div", { class: "card row" }, h("span", { class: "row", role: "group", "aria-label": t("Group by") }, t("Group by"), boxes.map(([, label]) => label)),
    h("label", {}, t("Since"), span), h("button", { onclick: load }, t("Refresh")), h("button", { onclick: csv }, t("Export CSV"))), place);

  async function load() {
    const by = boxes.filter(([box]) => box.checked).map(([box]) => box.value);
    const midnight = Math.floor(Date.now() / 1000 / DAY_S) * DAY_S;
    const from = { "": "", today: midnight, 7: midnight - 6 * DAY_S, 30: midnight - 29 * DAY_S }[span.value];
    try {
      told = await call("GET", `usage?by=${by.join(",")}${from === "" ? "" : `&since=${from}`}`);
      draw();
    } catch (error) { say(error.message); }
  }

  function draw() {
    if (!told.rows.length) return place.replaceChildren(h("p", { class: "empty" }, t("Nothing was used in that time.")));
    const most = Math.max(...told.rows.map((row) => row.prompt_tokens + row.completion_tokens), 1);
    const shown = table(t("From the ledger; the last second may be missing."), [...told.by.map((name) => [names()[name]]), [t("Requests"), "n"], [t("Failed"), "n"], [t("Prompt tokens"), "n"], [t("Cached"), "n"], [t("Completion tokens"), "n"], [`${t("Cost")} ${told.currency}`, "n"], [t("Tokens")]]);
    for (const row of [...told.rows, { ...told.total, group: told.by.map((_, index) => (index ? "" : t("total"))), isTotal: true }]) {
      shown.body.append(h("tr", { "data-usage": row.isTotal ? "total" : row.group.join("/") }, row.group.map((name) => h("td", {}, name || (row.isTotal ? "" : "–"))),
        FIGURES.map((name) => h("td", { class: "n", "data-figure": name }, number(row[name]))), h("td", { class: "n", "data-figure": "cost" }, row.cost.replace(/(\.\d{6})\d*$/, "$1")),
        h("td", {}, row.isTotal ? "" : bar((row.prompt_tokens + row.completion_tokens) / most))));
    }
    place.replaceChildren(shown.node);
  }

  function csv() {
    if (!told) return;
    const cell = (text) => (/[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text);
    const lines = [[...told.by, ...FIGURES, `cost_${told.currency.toLowerCase()}`], ...told.rows.map((row) => [...row.group, ...FIGURES.map((name) => row[name]), row.cost])];
    save("inferry-usage.csv", "text/csv", `${lines.map((line) => line.map(cell).join(",")).join("\n")}\n`);
  }

  load();
}

// Scaling: how many replicas each deployment is to have, why, and what was decided before.
import { call } from "./api.js";
import { h, moment, number, say, table } from "./dom.js";
import { t } from "./words.js";

const EVERY_MS = 3000;

export function scaling(main) {
  const states = h("div");
  const past = h("div", { class: "card" });
  main.append(states, past);

  function card(state) {
    const decision = state.decision;
    const wishes = table(t("What each rule wants"), [[t("Rule")], [t("Replicas"), "n"], [t("Why")]]);
    for (const wish of decision?.wishes ?? []) wishes.body.append(h("tr", {}, h("th", { scope: "row" }, wish.rule), h("td", { class: "n" }, number(wish.to)), h("td", { class: "wrap" }, wish.because)));
    return h("section", { class: "card", "aria-label": state.deployment }, h("h2", {}, state.deployment),
      h("p", {}, `${t("wanted")} ${state.wanted} · ${t("bounds")} ${state.min}–${state.max} · ${t("serving")} ${decision?.serving ?? "–"} · ${t("coming")} ${decision?.coming ?? "–"}${state.by_hand ? ` · ${t("by hand")}: ${state.by_hand}` : ""}`),
      h("p", {}, decision?.because ?? t("No look yet.")), state.not_done && h("p", { class: "wrongs" }, state.not_done), state.failing && h("p", { class: "wrongs" }, state.failing),
      decision?.wishes.length ? wishes.node : null,
      state.by_hand ? h("button", { onclick: async () => { try { say((await call("POST", `deployments/${encodeURIComponent(state.deployment)}/scaling/auto`)).message); load(); } catch (error) { say(error.message); } } }, t("Back to automatic")) : null);
  }

  async function load() {
    try {
      const [now, history] = [await call("GET", "scaling"), await call("GET", "scaling/history")];
      states.replaceChildren(...(now.length ? now.map(card) : [h("p", { class: "card empty" }, t("No deployment has a 'scaling' section in the file: numbers change by hand, on the Fleet page."))]));
      const events = table(t("What was decided, newest first"), [[t("When")], [t("Deployment")], [t("What")], [t("From"), "n"], [t("To"), "n"], [t("Rule")], [t("Why")], [t("What became of it")]]);
      for (const event of history.events.slice(-200).reverse()) events.body.append(h("tr", {}, h("td", {}, moment(event.at)), h("td", {}, event.deployment), h("td", {}, event.kind), h("td", { class: "n" }, number(event.was)), h("td", { class: "n" }, number(event.to)), h("td", {}, event.rule), h("td", { class: "wrap" }, event.because), h("td", { class: "wrap" }, event.outcome || "–")));
      past.replaceChildren(history.events.length ? events.node : h("p", { class: "empty" }, t("Nothing was decided yet.")));
    } catch (error) { say(error.message); }
  }

  load();
  const timer = setInterval(load, EVERY_MS);
  return () => clearInterval(timer);
}

// Fleet: deployments and their replicas, live, and what can be done with them.
import { call } from "./api.js";
import { bar, confirm, h, ms, number, percent, say, setText, since, table, tile } from "./dom.js";
import { listen, now } from "./live.js";
import { t } from "./words.js";

const CLASSES = ["n", "n", "n", "", "", "n"];

async function act(button, title, text, path, body) {
  if ((await confirm(title, text)) === null) return;
  button.disabled = true;
  try {
    say((await call("POST", path, body)).message);
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

// Of a thousand rows some thirty are on the screen: the others are written when they come into view.
const shownWhenSeen = new WeakMap();
const eye = new IntersectionObserver((entries) => {
  for (const entry of entries) shownWhenSeen.get(entry.target)?.(entry.isIntersecting);
}, { rootMargin: "200px" });

function replicaRow(id) {
  const cells = [h("td", { class: "state" }), h("td"), ...CLASSES.map((kind) => h("td", { class: kind })), h("td", { class: "wrap" })];
  const [state, age, requests, inFlight, tokens, kv, gpu, restarts, message] = cells;
  const restart = h("button", { class: "small", "aria-label": `${t("Restart")} ${id}`, onclick: () => act(restart, `${t("Restart")} ${id}?`, t("It finishes or hands over what it has, and a new engine takes its place."), "restart", { target: id }) }, t("Restart"));
  const drain = h("button", { class: "small", "aria-label": `${t("Drain")} ${id}`, onclick: () => act(drain, `${t("Drain")} ${id}?`, t("It gets no new requests, and its engine ends when it has none left."), "drain", { target: id }) }, t("Drain"));
  const undrain = h("button", { class: "small", "aria-label": `${t("Start")} ${id}`, onclick: () => act(undrain, `${t("Start")} ${id}?`, t("Its engine is started, and gets requests when it is ready."), "undrain", { target: id }) }, t("Start"));
  const node = h("tr", { "data-replica": id }, h("th", { scope: "row" }, id), cells, h("td", {}, h("span", { class: "row" }, restart, drain, undrain)));
  const shares = new Map();
  const share = (cell, value) => {
    if (shares.get(cell) === value) return;
    shares.set(cell, value);
    cell.replaceChildren(...(value === null || value === undefined ? ["–"] : [bar(value), percent(value)]));
  };
  let latest = null;
  let seen = true; // until the observer says otherwise, so that nothing begins empty
  shownWhenSeen.set(node, (now) => {
    seen = now;
    if (seen && latest) write(latest);
  });
  eye.observe(node);
  function write(row) {
    if (state.textContent !== row.state) { state.className = `state ${row.state}`; state.textContent = row.state; }
    setText(age, since(row.since));
    setText(requests, number(row.requests));
    setText(inFlight, number(row.in_flight));
    setText(tokens, number(row.tokens_per_s, 1));
    share(kv, row.kv_cache_use);
    share(gpu, row.gpu_use);
    setText(restarts, number(row.restarts));
    setText(message, row.message);
    const out = ["stopped", "failed"].includes(row.state);
    drain.hidden = out || row.state === "draining";
    undrain.hidden = !out;
  }
  return { node,
    set(row) {
      latest = row;
      if (seen) write(row);
    },
    drop() {
      eye.unobserve(node);
      node.remove();
    } };
}

function deploymentCard(name) {
  const status = h("span", { class: "state" });
  const model = h("span", { class: "soft" });
  const engine = h("span", { class: "tag" });
  const simulated = h("span", { class: "tag sim", hidden: true }, "SIMULATED");
  const why = h("p", { class: "note" });
  const tiles = [t("requests/s"), t("tokens/s"), t("in flight"), t("waiting"), t("TTFT p50"), t("TTFT p95"), t("ITL p50"), t("errors/s")].map(tile);
  const rows = new Map();
  const replicas = table(`${t("Replicas of")} ${name}`, [[t("Replica")], [t("State")], [t("Since")], [t("Requests"), "n"], [t("In flight"), "n"], [t("Tokens/s"), "n"], [t("KV cache")], ["GPU"], [t("Restarts"), "n"], [t("Message")], [""]]);
  const scale = h("button", { onclick: async () => {
    const count = Object.values(now.replicas).filter((row) => row.deployment === name).length;
    const input = h("label", {}, t("Replicas"), h("input", { type: "number", name: "replicas", min: 1, max: 256, value: count, required: true }));
    const asked = await confirm(`${t("Scale")} ${name}`, t("Until the file says another number. Replicas that leave finish or hand over what they have."), [input]);
    if (asked === null) return;
    scale.disabled = true;
    try {
      say((await call("POST", `deployments/${encodeURIComponent(name)}/scale`, { replicas: Number(asked.replicas) })).message);
    } catch (error) { say(error.message); } finally { scale.disabled = false; }
  } }, t("Scale"));
  const node = h("section", { class: "card apart", "aria-label": name, "data-deployment": name },
    h("div", { class: "row end" }, h("div", { class: "row" }, h("h2", {}, name), status, engine, simulated, model), scale),
    h("div", { class: "tiles" }, tiles.map((each) => each.node)), why, replicas.node);
  return { node, rows,
    set(row) {
      setText(status, row.status);
      status.className = `state ${row.status}`;
      setText(engine, `${row.engine} · ${row.routing}`);
      setText(model, row.model);
      simulated.hidden = !row.simulated;
      setText(why, [row.scaling?.because, row.load && `${row.load.state}: ${row.load.message}`, row.rollout?.message].filter(Boolean).join(" · "));
      scale.hidden = row.engine === "openai";
    },
    setTraffic(point) {
      const values = [number(point?.requests_per_s, 1), number(point?.output_tokens_per_s, 1), number(point?.in_flight), number(point?.waiting), ms(point?.ttft_p50_ms), ms(point?.ttft_p95_ms), ms(point?.itl_p50_ms), number(point?.errors_per_s, 1)];
      tiles.forEach((each, index) => each.set(values[index]));
    },
    setReplica(id, row) {
      if (!rows.has(id)) {
        rows.set(id, replicaRow(id));
        replicas.body.append(rows.get(id).node);
      }
      rows.get(id).set(row);
    },
    drop(id) { rows.get(id)?.drop(); rows.delete(id); } };
}

export function fleet(main) {
  const cards = new Map();
  const about = h("p", { class: "note" });
  const list = h("div");
  main.append(about, list);

  function update(changed) {
    const status = now.about.status;
    if (status) setText(about, `${status.url} · ${status.file} · ${t("status")}: ${status.status} · ${t("generation")} ${status.generation} · ${status.version}${status.file_not_in_force ? ` · ${t("The file on disk is not in force:")} ${status.file_not_in_force}` : ""}`);
    for (const [name, row] of Object.entries(now.deployments)) {
      if (!cards.has(name)) { cards.set(name, deploymentCard(name)); list.append(cards.get(name).node); }
      cards.get(name).set(row);
      cards.get(name).setTraffic(now.traffic[name]);
    }
    for (const [name, card] of cards) if (!(name in now.deployments)) { card.node.remove(); cards.delete(name); }
    const rows = changed === null ? now.replicas : (changed.replicas ?? {});
    for (const [id, row] of Object.entries(rows)) {
      if (row === null) for (const card of cards.values()) card.drop(id);
      else cards.get(row.deployment)?.setReplica(id, row);
    }
    if (changed === null) for (const card of cards.values()) for (const id of [...card.rows.keys()]) if (!(id in now.replicas)) card.drop(id);
  }

  update(null);
  return listen(update);
}

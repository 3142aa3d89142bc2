// Playground: try a prompt on one deployment, or on two side by side, with times and tokens.
import { chat, problem } from "./api.js";
import { copy, h, ms, number } from "./dom.js";
import { now } from "./live.js";
import { t } from "./words.js";

let gatewayKey = ""; // Kept while this page is loaded, and nowhere else.
let panes = 1;

export function playground(main) {
  const key = h("input", { type: "password", autocomplete: "off", value: gatewayKey, oninput: () => { gatewayKey = key.value.trim(); } });
  const system = h("textarea", { rows: 2 });
  const prompt = h("textarea", { rows: 3, placeholder: t("Write a message"), onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(); } });
  const temperature = h("input", { type: "number", min: 0, max: 2, step: 0.1, value: 0.7 });
  const topP = h("input", { type: "number", min: 0, max: 1, step: 0.05, value: 1 });
  const most = h("input", { type: "number", min: 1, value: 256 });
  const sides = h("div", { class: "panes" });
  const two = h("input", { type: "checkbox", checked: panes === 2, onchange: () => { panes = two.checked ? 2 : 1; build(); } });
  const sendButton = h("button", { class: "main", onclick: send }, t("Send"));
  const stopButton = h("button", { disabled: true, onclick: () => shown.forEach((pane) => pane.stop()) }, t("Stop"));
  let shown = [];
  main.append(h("div", { class: "card" }, h("div", { class: "row" },
    h("label", {}, t("Gateway key, if it asks for one"), key), h("label", {}, t("Temperature"), temperature), h("label", {}, "top_p", topP), h("label", {}, t("Tokens at most"), most), h("label", {}, two, t("Side by side"))),
  h("label", { class: "up" }, t("System message"), system)), sides,
  h("div", { class: "card" }, h("label", { class: "up" }, t("Your message (Ctrl-Enter sends)"), prompt), h("p", { class: "row" }, sendButton, stopButton, h("button", { onclick: build }, t("Start over")),
    h("button", { onclick: () => copy(curl()) }, t("Copy as curl")), h("button", { onclick: () => copy(python()) }, t("Copy as Python")))));

  function build() {
    const names = [...Object.keys(now.deployments), ...Object.keys(now.names)];
    shown = Array.from({ length: panes }, (_, index) => pane(names, index));
    sides.replaceChildren(...shown.map((each) => each.node));
  }

  function body(model, messages) {
    return { model, messages, temperature: Number(temperature.value), top_p: Number(topP.value), max_tokens: Number(most.value), stream: true, stream_options: { include_usage: true } };
  }

  function conversation(before, text) {
    return [...(system.value.trim() ? [{ role: "system", content: system.value }] : []), ...before, { role: "user", content: text }];
  }

  async function send() {
    const text = prompt.value.trim();
    if (!text) return;
    sendButton.disabled = true;
    stopButton.disabled = false;
    prompt.value = "";
    await Promise.all(shown.map((each) => each.ask(text)));
    sendButton.disabled = false;
    stopButton.disabled = true;
    prompt.focus();
  }

  function pane(names, index) {
    const simulated = h("span", { class: "tag sim", hidden: true }, "SIMULATED");
    const model = h("select", { onchange: () => { simulated.hidden = !now.deployments[model.value]?.simulated; } }, names.map((name) => h("option", {}, name)));
    if (names[index]) model.value = names[index];
    simulated.hidden = !now.deployments[model.value]?.simulated;
    const words = h("div", { class: "words", tabindex: "0", role: "log", "aria-label": `${t("Answers")} ${index + 1}` });
    const figures = h("p", { class: "note", "data-figures": "" });
    let past = [];
    let stopping = null;
    return { node: h("section", { class: "card", "aria-label": `${t("Side")} ${index + 1}` }, h("p", {}, h("span", { class: "row" }, h("label", {}, t("Deployment"), model), simulated)), words, figures),
      model: () => model.value, past: () => past, stop: () => stopping?.abort(),
      async ask(text) {
        const answer = h("div");
        words.append(h("div", { class: "you" }, `${t("You")}: ${text}`), answer);
        figures.textContent = "";
        stopping = new AbortController();
        const began = performance.now();
        let first = null;
        let tokens = null;
        let got = "";
        let ending = "";
        try {
          const response = await chat("v1/chat/completions", body(model.value, conversation(past, text)), gatewayKey, stopping.signal);
          if (!response.ok) throw new Error(await problem(response));
          for await (const event of eventsOf(response)) {
            if (event.error) throw new Error(event.error.message);
            tokens = event.usage ?? tokens;
            const piece = event.choices?.[0]?.delta?.content;
            ending = event.choices?.[0]?.finish_reason ?? ending;
            if (!piece) continue;
            first ??= performance.now();
            got += piece;
            answer.textContent = got;
            words.scrollTop = words.scrollHeight;
          }
          past = [...past, { role: "user", content: text }, { role: "assistant", content: got }];
        } catch (error) {
          answer.append(h("span", { class: "wrongs" }, ` ${error.name === "AbortError" ? t("stopped") : error.message}`));
        }
        const took = performance.now() - began;
        const speed = tokens && first !== null && took > first - began ? (tokens.completion_tokens - 1) / ((took - (first - began)) / 1000) : null;
        figures.textContent = `TTFT ${ms(first === null ? null : first - began)} · ${t("whole")} ${ms(took)} · ${tokens ? `${tokens.prompt_tokens} + ${tokens.completion_tokens} ${t("tokens")}` : t("tokens not told")} · ${number(speed, 1)} ${t("tokens/s")}${ending ? ` · ${ending}` : ""}`;
      } };
  }

  function request() {
    return body(shown[0].model(), conversation(shown[0].past().filter((each) => each.role !== "assistant" || each.content), prompt.value.trim() || t("Hello!")));
  }

  const base = () => now.about.status?.url ?? "http://127.0.0.1:8000";

  function curl() {
    const quoted = JSON.stringify(request(), null, 2).replaceAll("'", "'\\''");
    return `curl -N ${base()}/v1/chat/completions \\\n  -H "authorization: Bearer $INFERRY_API_KEY" \\\n  -H 'content-type: application/json' \\\n  -d '${quoted}'\n`;
  }

  function python() {
    const asked = request();
    return `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base()}/v1", api_key=os.environ.get("INFERRY_API_KEY", "none"))\nstream = client.chat.completions.create(\n    model=${JSON.stringify(asked.model)},\n    messages=${JSON.stringify(asked.messages)},\n    temperature=${asked.temperature},\n    top_p=${asked.top_p},\n    max_tokens=${asked.max_tokens},\n    stream=True,\n)\nfor event in stream:\n    if event.choices:\n        print(event.choices[0].delta.content or "", end="", flush=True)\n`;
  }

  build();
  if (!Object.keys(now.deployments).length) setTimeout(() => { if (!shown[0].past().length) build(); }, 1500);
  return () => shown.forEach((each) => each.stop());
}

// The data of server-sent events, as objects, until [DONE].
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const text = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (text === "[DONE]") return;
      if (text) yield JSON.parse(text);
    }
  }
}

// Traffic: rates, latencies and queues over time; live, or the last day.
import { call } from "./api.js";
import { h, say } from "./dom.js";
import { listen, now } from "./live.js";
import { t } from "./words.js";

const CHARTS = () => [
  [t("Requests per second"), [["requests_per_s", t("all")], ["rejects_per_s", t("refused")], ["errors_per_s", t("failed")]]],
  [t("Tokens per second"), [["output_tokens_per_s", t("generated")], ["prompt_tokens_per_s", t("prompts")]]],
  [t("Time to first token, ms"), [["ttft_p50_ms", "p50"], ["ttft_p95_ms", "p95"]]],
  [t("Time between tokens, ms"), [["itl_p50_ms", "p50"], ["itl_p95_ms", "p95"]]],
  [t("In flight and waiting"), [["in_flight", t("in flight")], ["waiting", t("waiting")]]],
];
const SPAN_S = 900;

export function traffic(main) {
  const which = h("select", { onchange: load }, h("option", { value: "" }, t("all deployments")));
  const span = h("select", { onchange: load }, h("option", { value: "minutes" }, t("15 minutes, live")), h("option", { value: "day" }, t("last day, by the minute")));
  const charts = h("div", { class: "charts" });
  let plots = [];
  let columns = [];
  let fields = [];
  main.append(h("div", { class: "card row" }, h("label", {}, t("Deployment"), which), h("label", {}, t("Span"), span)), charts);

  function names() {
    for (const name of Object.keys(now.deployments)) {
      if (![...which.options].some((option) => option.value === name)) which.append(h("option", { value: name }, name));
    }
  }

  async function load() {
    try {
      const told = await call("GET", `traffic?deployment=${encodeURIComponent(which.value)}&span=${span.value}`);
      fields = told.fields;
      columns = fields.map((_, index) => told.points.map((point) => point[index]));
      draw();
    } catch (error) { say(error.message); }
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const plot of plots) plot.chart.destroy();
    charts.replaceChildren();
    const asked = CHARTS();
    const cards = asked.map(([title]) => h("section", { class: "card", "aria-label": title }, h("h3", {}, title)));
    charts.append(...cards); // all of them first: only then does each have its width
    plots = asked.map(([, series], place) => {
      const card = cards[place];
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      const chart = new uPlot({
        width: Math.max(260, card.clientWidth - 34), height: 190, axes: [{ ...axis, space: 70, values: (_, at) => at.map(clock) }, { ...axis, size: 58 }],
        scales: { y: { range: (_, low, high) => [0, Math.max(1, high ?? 1) * 1.08] } },
        series: [{ label: t("When"), value: (_, at) => (at ? clock(at) : "–") }, ...series.map(([, label], index) => ({ label, stroke: colour(`--c${index + 1}`), width: 2, spanGaps: false, points: { show: series.some(([name]) => name.endsWith("_ms")), size: 4 } }))],
      }, data(series), card);
      return { chart, series, card };
    });
  }

  const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false, ...(span.value === "day" ? { hour: "2-digit", minute: "2-digit" } : {}) });
  const data = (series) => [columns[0] ?? [], ...series.map(([name]) => columns[fields.indexOf(name)] ?? [])];

  function update() {
    names();
    const point = now.traffic[which.value];
    if (span.value !== "minutes" || !point || !fields.length || point.at === columns[0].at(-1)) return;
    fields.forEach((name, index) => columns[index].push(point[name]));
    const first = columns[0].findIndex((at) => at >= point.at - SPAN_S);
    if (first > 0) columns = columns.map((column) => column.slice(first));
    for (const plot of plots) plot.chart.setData(data(plot.series));
  }

  const resize = () => { for (const plot of plots) plot.chart.setSize({ width: Math.max(260, plot.card.clientWidth - 34), height: 190 }); };
  addEventListener("resize", resize);
  names();
  load();
  const stop = listen(update);
  return () => { stop(); removeEventListener("resize", resize); for (const plot of plots) plot.chart.destroy(); };
}

// Small tools for pages: elements, words, numbers, dialogs. Text is always set as text, never as HTML.
import { t } from "./words.js";

export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list" && name !== "role") node[name === "class" ? "className" : name] = value;
    else node.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return node;
}

export function setText(node, text) {
  const value = text ?? "";
  if (node.textContent !== value) node.textContent = value;
}

export function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

export const ms = (value) => (value === null || value === undefined ? "–" : `${number(value, value < 100 ? 1 : 0)} ms`);
export const percent = (value) => (value === null || value === undefined ? "–" : `${number(value * 100, 0)} %`);
export const moment = (wall) => new Date(wall * 1000).toLocaleString([], { hour12: false });

export function since(wall) {
  const s = Math.max(0, Math.round(Date.now() / 1000 - wall));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

export function say(text) {
  const line = h("div", {}, text);
  document.getElementById("says").append(line);
  setTimeout(() => line.remove(), 7000);
}

export function bar(share) {
  const fill = h("i");
  fill.style.width = `${Math.min(100, Math.max(0, (share ?? 0) * 100))}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, fill);
}

export function tile(name) {
  const value = h("b", {}, "–");
  return { node: h("div", { class: "tile" }, value, h("span", {}, name)), set: (text) => setText(value, text) };
}

export function table(caption, columns, attributes) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map(([name, kind]) => h("th", { scope: "col", class: kind ?? "" }, name || h("span", { class: "soft" }, t("Actions")))));
  return { node: h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", attributes, h("caption", {}, caption), h("thead", {}, head), body)), body };
}

// Asks before something is done. Resolves to the form's values, or null.
export function confirm(title, text, fields = [], doIt = t("Do it")) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" },
      h("h2", {}, title), h("p", {}, text), fields,
      h("div", { class: "row" }, h("button", { class: "main", value: "yes" }, doIt), h("button", { value: "no", formNoValidate: true }, t("Cancel"))));
    const dialog = h("dialog", { "aria-label": title }, form);
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
      const values = dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null;
      dialog.remove();
      resolve(values);
    });
    dialog.showModal();
  });
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say(t("Copied."));
  } catch {
    say(t("This browser does not let pages copy here; mark the text and copy it by hand."));
  }
}

export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

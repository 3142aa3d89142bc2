// The frame: who is signed in, which page is shown, language and theme.
import { resume, session, signIn, signOut, whenSignedOut } from "./api.js";
import { h, say } from "./dom.js";
import * as live from "./live.js";
import { events } from "./events.js";
import { fleet } from "./fleet.js";
import { keys } from "./keys.js";
import { playground } from "./playground.js";
import { scaling } from "./scaling.js";
import { traffic } from "./traffic.js";
import { usage } from "./usage.js";
import { language, setLanguage, t } from "./words.js";

const PAGES = { fleet, playground, traffic, usage, keys, scaling, events };
const titles = () => ({ fleet: t("Fleet"), playground: t("Playground"), traffic: t("Traffic"), usage: t("Usage & cost"), keys: t("Keys"), scaling: t("Scaling"), events: t("Logs & events") });
const top = document.getElementById("top");
const main = document.getElementById("main");
let leave = () => {};

function stored(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function store(name, value) {
  try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ }
}

function brand() {
  return h("span", { class: "brand" }, h("img", { src: "ui/mark.svg", alt: "" }), "Inferry");
}

function choices() {
  const languages = h("select", { "aria-label": t("Language"), onchange: () => { setLanguage(languages.value); store("inferry-language", languages.value); frame(); } },
    h("option", { value: "en" }, "English"), h("option", { value: "zh" }, "中文"));
  languages.value = language();
  const themes = h("select", { "aria-label": t("Theme"), onchange: () => { theme(themes.value); store("inferry-theme", themes.value); frame(); } },
    h("option", { value: "auto" }, t("Auto")), h("option", { value: "light" }, t("Light")), h("option", { value: "dark" }, t("Dark")));
  themes.value = document.documentElement.dataset.theme ?? "auto";
  return [languages, themes];
}

function theme(name) {
  if (name === "auto" || !name) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

function frame() {
  const names = titles();
  const connection = h("span", { class: "tag", role: "status" });
  live.whenStateChanges((state) => { connection.textContent = { connecting: t("connecting"), live: t("live"), lost: t("no connection") }[state]; });
  const nav = h("nav", { "aria-label": t("Pages") }, Object.keys(PAGES).map((name) => h("a", { href: `#/${name}` }, names[name])));
  top.replaceChildren(brand(), nav, connection, ...choices(),
    h("span", { class: "note" }, session.name), h("button", { class: "small", onclick: leaveSession }, t("Sign out")));
  show();
}

function show() {
  const asked = location.hash.replace(/^#\//, "");
  const name = asked in PAGES ? asked : "fleet";
  leave();
  for (const link of top.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${titles()[name]} · Inferry`;
  main.replaceChildren(h("h1", {}, titles()[name]));
  leave = PAGES[name](main) ?? (() => {});
}

async function leaveSession() {
  try { await signOut(); } catch { /* it is over anyway */ }
  signedOut();
}

function signedOut() {
  session.name = "";
  live.close();
  leave();
  leave = () => {};
  const key = h("input", { type: "password", name: "key", autocomplete: "off", required: true });
  const wrong = h("p", { class: "wrongs", role: "alert" });
  const form = h("form", { class: "card sign", onsubmit: async (event) => {
    event.preventDefault();
    try {
      await signIn(key.value);
      start();
    } catch (error) { wrong.textContent = error.message; }
  } }, h("h1", {}, t("Sign in")), h("p", {}, t("With a key of scope admin, or read-only just to look.")),
  h("label", { class: "up" }, t("Key"), key), wrong, h("p", {}, h("button", { class: "main" }, t("Sign in"))));
  top.replaceChildren(brand(), ...choices());
  main.replaceChildren(form);
  key.focus();
}

function start() {
  live.open();
  frame();
  if (!session.mayChange) say(t("This key is for looking: what changes anything is refused."));
}

async function begin() {
  theme(stored("inferry-theme"));
  setLanguage(stored("inferry-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  whenSignedOut(signedOut);
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname); // it is no secret of the history's
    try { await signIn(token); } catch (error) { say(error.message); }
  }
  addEventListener("hashchange", () => { if (session.name) show(); });
  if (session.name || (await resume())) start();
  else signedOut();
}

begin();

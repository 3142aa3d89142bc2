// All that leaves this page: to its own server, with the session's cookie and, for changes, its second secret.
let csrf = "";
let onSignedOut = () => {};

export const session = { name: "", mayChange: false };
export const whenSignedOut = (callback) => { onSignedOut = callback; };

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { accept: "application/json", ...headers }, credentials: "same-origin", cache: "no-store" };
  if (method !== "GET") options.headers["x-inferry-csrf"] = csrf;
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  if (answer.status === 401 && path !== "session") onSignedOut();
  throw new Error(await problem(answer));
}

// An answer of the gateway as it comes. `key` opens the gateway, if it asks for one.
export function chat(path, body, key, signal) {
  const headers = { "content-type": "application/json", "x-inferry-csrf": csrf };
  if (key) headers["x-gateway-key"] = key;
  return fetch(`gateway/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "same-origin" });
}

export async function problem(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `HTTP ${answer.status}`;
  }
}

export async function signIn(key) {
  return opened(await call("POST", "session", { key }));
}

export async function resume() {
  try {
    return opened(await call("GET", "session"));
  } catch {
    return false;
  }
}

export async function signOut() {
  await call("DELETE", "session");
}

function opened(told) {
  csrf = told.csrf;
  if (!told.name) return false;
  session.name = told.name;
  session.mayChange = told.may_change;
  return true;
}

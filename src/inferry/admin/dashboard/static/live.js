// How everything is now, kept true by the server's events: all of it once, then what changed each second.
const SECTIONS = ["about", "deployments", "replicas", "names", "traffic"];
export const now = Object.fromEntries(SECTIONS.map((name) => [name, {}]));
const listeners = new Set();
let source = null;
let again = 0;
let state = "connecting";
let onState = () => {};

export function listen(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

export const whenStateChanges = (callback) => { onState = callback; callback(state); };

export function open() {
  close();
  source = new EventSource("live");
  source.addEventListener("all", (event) => {
    const told = JSON.parse(event.data);
    for (const name of SECTIONS) now[name] = told[name] ?? {};
    set("live");
    tell(null);
  });
  source.addEventListener("change", (event) => {
    const told = JSON.parse(event.data);
    for (const [name, rows] of Object.entries(told)) {
      for (const [id, row] of Object.entries(rows)) {
        if (row === null) delete now[name][id];
        else now[name][id] = row;
      }
    }
    tell(told);
  });
  source.onerror = () => {
    set("lost");
    // A browser gives up after an answer that is no stream (a restart, a session that is over): then ask again.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 2000);
  };
}

export function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function set(next) {
  if (state !== next) onState((state = next));
}

// `changed`: rows by section, as they came; null: everything is new.
function tell(changed) {
  for (const callback of listeners) callback(changed);
}

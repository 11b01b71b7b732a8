// What is in view: one flat set of strings, kept in the address, so that a link reproduces it.
// Views ask for keys with `get`, are told of changes with `on`, and change them with `set`.
const State = (() => {
  const DEFAULTS = {
    n: "40",
    rank: "total",
    min: "0",
    side: "both",
    low: "",
    high: "",
    moves: "yes",
    others: "yes",
    focus: "",
    pick: "",
    filter: "",
    sort: "-total",
    page: "1",
    rows: "25",
    head: "",
    prompt: "",
    show: "",
    token: "",
    see: "",
    pins: "",
    kept: "",
    lines: "30",
    q: "",
    where: "",
    way: "",
    measure: "logit_difference",
    sets: "25",
    task: "",
    by: "",
    at: "",
  };
  const listeners = [];
  let current = { ...DEFAULTS };
  let timer = 0;

  function read() {
    const text = location.hash.slice(1);
    const found = { ...DEFAULTS };
    if (/^[a-z]+$/.test(text)) found.at = text;
    for (const [key, value] of new URLSearchParams(text)) if (key in DEFAULTS) found[key] = value;
    return found;
  }

  function hash(values) {
    const changed = Object.entries(values).filter(([key, value]) => value !== DEFAULTS[key]);
    return changed.length ? `#${new URLSearchParams(changed)}` : "#";
  }

  // Browsers refuse hundreds of address changes a minute, which a slider would make.
  function write() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const wanted = hash(current);
      if (wanted !== (location.hash || "#")) history.replaceState(null, "", wanted);
    }, 120);
  }

  function become(next) {
    const changed = new Set(Object.keys(DEFAULTS).filter((key) => next[key] !== current[key]));
    current = next;
    if (changed.size)
      for (const [keys, listener] of listeners) if (keys.some((key) => changed.has(key))) listener(changed);
  }

  current = read();
  addEventListener("hashchange", () => become(read()));

  return {
    DEFAULTS,
    get: (key) => current[key],
    number: (key, low, high) => {
      const value = Number(current[key]);
      return Math.min(high, Math.max(low, Number.isFinite(value) ? value : Number(DEFAULTS[key])));
    },
    set(values) {
      const next = { ...current };
      for (const [key, value] of Object.entries(values)) next[key] = String(value);
      become(next);
      write();
    },
    hash: () => hash(current),
    // The address of what is in view, before the browser has it.
    link: () => `${location.href.split("#")[0]}${hash(current)}`,
    on: (keys, listener) => listeners.push([keys, listener]),
  };
})();

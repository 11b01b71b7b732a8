// The matrix of heads: one is the reader, earlier ones are shaded by what they can write into it.
const DATA = JSON.parse(byId("data").textContent);
const HEADS = DATA.layers * DATA.heads;
const SIDES = { q: "query", k: "key", v: "value" };
const nameOf = (head) => `${Math.floor(head / DATA.heads)}.${head % DATA.heads}`;
const layerOf = (head) => Math.floor(head / DATA.heads);

// What is in view, kept in the address so that a link reproduces it.
const View = (() => {
  const first = Math.min(HEADS - 1, DATA.heads * Math.floor(DATA.layers / 2));
  const listeners = [];
  let current = { reader: first, side: "k", shade: "score" };

  function read() {
    const found = new URLSearchParams(location.hash.slice(1));
    const place = /^(\d+)\.(\d+)$/.exec(found.get("reader") || "");
    const head = place ? Number(place[1]) * DATA.heads + Number(place[2]) : -1;
    if (place && Number(place[2]) < DATA.heads && head < HEADS) current.reader = head;
    if (found.get("side") in SIDES) current.side = found.get("side");
    if (["score", "beyond"].includes(found.get("shade"))) current.shade = found.get("shade");
  }

  read();
  addEventListener("hashchange", () => {
    read();
    listeners.forEach((listener) => listener());
  });
  return {
    get: (key) => current[key],
    on: (listener) => listeners.push(listener),
    set(values) {
      current = { ...current, ...values };
      const said = new URLSearchParams({ ...current, reader: nameOf(current.reader) });
      history.replaceState(null, "", `#${said}`);
      listeners.forEach((listener) => listener());
    },
  };
})();

const writersOf = (reader, side) =>
  DATA.writers[side][reader].map(([writer, score, mean, sd, beyond, beyondRank], i) => ({
    writer,
    score,
    mean,
    sd,
    beyond,
    beyondRank,
    rank: i + 1,
    excess: sd ? (score - mean) / sd : null,
  }));

const Matrix = (() => {
  function cell(head, row, most) {
    const reader = View.get("reader");
    const name = nameOf(head);
    const value = row ? row[View.get("shade")] : null;
    const strength = value === null ? 0 : Math.min(1, Math.abs(value) / most);
    const kind = head === reader ? "same" : layerOf(head) >= layerOf(reader) ? "later" : row ? "" : "weak";
    const said = row
      ? `Head ${name} into ${nameOf(reader)}: score ${short(row.score)}, rank ${row.rank}, beyond medians ${short(row.beyond)}`
      : `Head ${name}${kind === "later" ? ", no earlier than the reader" : ""}`;
    return el(
      "td",
      {},
      button(name, () => View.set({ reader: head }), {
        class: `cell ${kind} ${value !== null && value < 0 ? "below" : ""}`,
        style: { "--strength": `${(100 * strength).toFixed(1)}%` },
        title: said,
        "aria-label": said,
        "aria-pressed": String(head === reader),
        "data-key": name,
        "data-head": head,
        tabindex: head === reader ? "0" : "-1",
      }),
    );
  }

  function draw() {
    const rows = new Map(writersOf(View.get("reader"), View.get("side")).map((row) => [row.writer, row]));
    const values = [...rows.values()].map((row) => Math.abs(row[View.get("shade")]));
    const most = Math.max(...values, 1e-9);
    const numbers = Array.from({ length: DATA.heads }, (_, i) => i);
    const layers = Array.from({ length: DATA.layers }, (_, i) => DATA.layers - 1 - i);
    put(
      byId("map"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "hidden" }, "Layer")), numbers.map((n) => el("th", { scope: "col" }, n)))),
      el(
        "tbody",
        {},
        layers.map((layer) =>
          el("tr", {}, el("th", { scope: "row" }, layer), numbers.map((n) => cell(layer * DATA.heads + n, rows.get(layer * DATA.heads + n), most))),
        ),
      ),
    );
    byId("map").classList.toggle("dense", DATA.heads > 16);
    byId("map").style.setProperty("--cell", `${Math.max(24, Math.min(44, 400 / DATA.layers))}px`);
    byId("reader").value = String(View.get("reader"));
    byId("side").value = View.get("side");
    byId("shade").value = View.get("shade");
    const first = writersOf(View.get("reader"), View.get("side"))[0];
    const reader = nameOf(View.get("reader"));
    byId("said").textContent = first
      ? `${nameOf(first.writer)} can write most into the ${SIDES[View.get("side")]} of ${reader}`
      : `${reader} is in the first layer: no head writes before it`;
  }

  function onKey(event) {
    const step = { ArrowUp: DATA.heads, ArrowDown: -DATA.heads, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const at = event.target.closest(".cell");
    if (!at || !step) return;
    event.preventDefault();
    const next = Number(at.dataset.head) + step;
    if (next < 0 || next >= HEADS) return;
    View.set({ reader: next });
    byId("map").querySelector(`[data-key="${nameOf(next)}"]`).focus();
  }

  return {
    start() {
      put(byId("reader"), Array.from({ length: HEADS }, (_, head) => el("option", { value: head }, nameOf(head))));
      byId("reader").addEventListener("change", (event) => View.set({ reader: Number(event.target.value) }));
      byId("side").addEventListener("change", (event) => View.set({ side: event.target.value }));
      byId("shade").addEventListener("change", (event) => View.set({ shade: event.target.value }));
      byId("map").addEventListener("keydown", onKey);
      View.on(draw);
      draw();
    },
  };
})();

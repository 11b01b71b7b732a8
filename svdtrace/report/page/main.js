// Puts the parts together: controls bound to the address, sections, and what a trace lacks left out.
function bind(id, key, reset = {}) {
  const control = byId(id);
  const show = () => {
    if (control.type === "checkbox") control.checked = State.get(key) === "yes";
    else if (control.value !== State.get(key)) control.value = State.get(key);
  };
  control.addEventListener("input", () => {
    State.set({ [key]: control.type === "checkbox" ? (control.checked ? "yes" : "no") : control.value, ...reset });
  });
  State.on([key], show);
  show();
}

function go(section, values = {}) {
  State.set({ ...values, at: section });
  byId(section)?.scrollIntoView();
}

// Filters lie folded on a narrow screen, where they would push the circuit out of sight.
function foldFilters() {
  const wide = matchMedia("(min-width: 641px)");
  const show = () => {
    byId("filters").open = wide.matches;
  };
  wide.addEventListener("change", show);
  show();
}

function bindCircuit() {
  foldFilters();
  const most = Math.min(CONNECTIONS.length, 500);
  byId("n").max = most;
  for (const id of ["low", "high"]) {
    const first = id === "low" ? "lowest" : "highest";
    put(
      byId(id),
      el("option", { value: "" }, first),
      Array.from({ length: DATA.shape.layers }, (_, i) => el("option", { value: i }, i)),
    );
  }
  const names = new Set([...HEADS.map((head) => head.name), ...CONNECTIONS.map((each) => each.writer.name)]);
  put(
    byId("head-names"),
    [...names].map((name) => el("option", { value: name })),
  );
  const controls = ["n", "rank", "min", "side", "low", "high", "moves", "others", "q"];
  for (const key of controls) if (byId(key)) bind(key, key);
  const search = byId("focus");
  const show = () => {
    if (document.activeElement !== search || !State.get("focus")) search.value = State.get("focus");
  };
  search.addEventListener("input", () => {
    const name = search.value.trim();
    if (name === "" || names.has(name)) State.set({ focus: name, ...(HEAD.has(name) ? { head: name } : {}) });
    search.setCustomValidity(name === "" || names.has(name) ? "" : "No such head in this trace");
    search.classList.toggle("unknown", !search.checkValidity());
  });
  State.on(["focus"], show);
  show();
  const labels = () => {
    byId("n-value").textContent = count(Math.min(State.number("n", 1, 1000), most));
    byId("min-value").textContent = `≥ ${State.get("min")}%`;
  };
  State.on(["n", "min"], labels);
  labels();
  byId("reset").addEventListener("click", () => {
    State.set(Object.fromEntries([...controls, "focus", "pick"].map((key) => [key, State.DEFAULTS[key]])));
  });
}

function bindHeads() {
  const options = HEADS.map((head) =>
    el("option", { value: head.name }, `${head.name} (${plural(head.firings, "firing")})`),
  );
  put(byId("head"), options);
  const control = byId("head");
  const show = () => {
    control.value = chosenHead().name;
  };
  control.addEventListener("input", () => State.set({ head: control.value }));
  State.on(["head"], show);
  show();
}

function followSections() {
  const sections = [...document.querySelectorAll("main > section")];
  const links = [...document.querySelectorAll("nav a")];
  const mark = () => {
    for (const link of links) {
      if (link.hash.slice(1) === State.get("at")) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  for (const link of links)
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go(link.hash.slice(1));
    });
  State.on(["at"], mark);
  mark();
  byId(State.get("at"))?.scrollIntoView({ behavior: "instant" });
  addEventListener("hashchange", () => byId(State.get("at"))?.scrollIntoView());
  // The section in view is the last one that begins above the upper third of the window.
  let waiting = false;
  addEventListener(
    "scroll",
    () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        const above = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 3);
        State.set({ at: scrollY < 40 || !above.length ? "" : above.at(-1).id });
      });
    },
    { passive: true },
  );
}

for (const form of document.querySelectorAll("form"))
  form.addEventListener("submit", (event) => event.preventDefault());
if (CONNECTIONS.length) {
  bindCircuit();
  bind("filter", "filter", { page: 1 });
  bind("rows-per-page", "rows", { page: 1 });
  Details.start();
  Circuit.start();
  EdgesTable.start();
}
if (HEADS.length) {
  bindHeads();
  Heads.start();
  Dimensions.start();
}
Chance.start();
if (DATA.interventions) Interventions.start();
if (DATA.characterisation) Characterisation.start();
if (DATA.faithfulness) Faithfulness.start();
Promise.all([unpackPrompts(), Cards.unpack()])
  .then(() => {
    if (PROMPTS.length) Prompts.start();
    if (PROMPTS.length && byId("sentence")) Sentence.start();
    if (CONNECTIONS.length) Details.draw();
  })
  .catch(() => {
    if (byId("prompt-facts")) byId("prompt-facts").textContent = "This browser cannot unpack the prompts; a newer one can.";
  })
  .finally(() => {
    followSections();
    document.documentElement.classList.add("ready");
  });

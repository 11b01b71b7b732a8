// Firings per head: a heat map, layers upwards, and bars of the most frequent ones.
const Heads = (() => {
  const BARS = 12;
  const most = MOST_FIRING ? MOST_FIRING.firings : 1;
  const choose = (name) => State.set({ head: name });

  function cell(layer, number) {
    const name = `${layer}.${number}`;
    const head = HEAD.get(name);
    const strength = head ? Math.sqrt(head.firings / most) : 0;
    const chosen = chosenHead().name === name;
    const text = head
      ? `Head ${name}: ${plural(head.firings, "firing")} in ${plural(head.prompts, "prompt")}, mean |S| ${short(head.size)}`
      : `Head ${name}: no firings`;
    return el(
      "td",
      {},
      button(head ? count(head.firings) : "", () => choose(name), {
        class: "cell",
        style: { "--strength": `${(8 + 92 * strength).toFixed(1)}%` },
        title: text,
        "aria-label": text,
        "aria-pressed": String(chosen),
        "data-key": name,
        "data-layer": layer,
        "data-head": number,
        tabindex: chosen ? "0" : "-1",
        disabled: head ? null : true,
      }),
    );
  }

  function drawMap() {
    const { layers, heads } = DATA.shape;
    const numbers = Array.from({ length: heads }, (_, i) => i);
    const from = Math.min(1, layers - 1);
    const rows = Array.from({ length: layers - from }, (_, i) => layers - 1 - i);
    put(
      byId("map"),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, el("span", { class: "hidden" }, "Layer")),
          numbers.map((n) => el("th", { scope: "col" }, n)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((layer) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, layer),
            numbers.map((n) => cell(layer, n)),
          ),
        ),
      ),
    );
    byId("map").classList.toggle("dense", heads > 16);
    byId("map").style.setProperty("--cell", `${Math.max(26, Math.min(56, 330 / rows.length))}px`);
  }

  // One stop for the tabulator; arrows go to the next head that fired.
  function onKey(event) {
    const at = event.target.closest(".cell");
    const direction = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!at || !direction) return;
    event.preventDefault();
    let [layer, head] = [Number(at.dataset.layer) + direction[0], Number(at.dataset.head) + direction[1]];
    for (
      ;
      layer >= 0 && layer < DATA.shape.layers && head >= 0 && head < DATA.shape.heads;
      layer += direction[0], head += direction[1]
    ) {
      const next = byId("map").querySelector(`[data-key="${layer}.${head}"]:not([disabled])`);
      if (next) return next.focus();
    }
  }

  function drawBars() {
    const first = [...HEADS].sort((a, b) => b.firings - a.firings).slice(0, BARS);
    put(
      byId("bars"),
      first.map((head) =>
        el(
          "li",
          {},
          button(
            [
              el("span", { class: "name" }, head.name),
              el(
                "span",
                { class: "track" },
                el("span", { class: "bar", style: { width: `${((100 * head.firings) / most).toFixed(2)}%` } }),
              ),
              el("span", { class: "number" }, count(head.firings)),
            ],
            () => choose(head.name),
            {
              "aria-pressed": String(chosenHead() === head),
              "data-key": `bar ${head.name}`,
              "aria-label": `Head ${head.name}: ${plural(head.firings, "firing")}`,
            },
          ),
        ),
      ),
    );
  }

  return {
    start() {
      const draw = () => {
        drawMap();
        drawBars();
      };
      byId("map").addEventListener("keydown", onKey);
      State.on(["head"], draw);
      draw();
    },
  };
})();

// Faithfulness: how much of the logit difference a circuit's edges carry, and whether patching agrees with tracing.
const Faithfulness = (() => {
  const LISTED = 12;
  const data = DATA.faithfulness;
  const ORDERS_OF = {
    traced: ["first", "circle", "traced: by total weight"],
    attribution: ["second dashed", "square", "by attribution patching"],
    random: ["third", "triangle", "at random (mean over seeds; small: each seed)"],
  };
  const KINDS = {
    faithfulness: ["Kept alone: faithfulness", "edges kept, all others at their mean", "higher is better"],
    completeness: ["Removed: completeness", "edges removed, all others kept", "lower is better"],
  };
  const PERCENT = (value) => `${Math.round(100 * value)}%`;

  const MEASURED = {
    logit_difference: ["logit difference", "logits"],
    log_probability: ["answer's log-probability", "nats"],
  };
  // What is measured: its tables as rows, the numbers of its manifest, its name and unit.
  const chosen = () => (State.get("by") in MEASURED ? State.get("by") : data.default);
  const measured = () => {
    const key = chosen();
    const { curves, agreement, ...numbers } = data.measures[key];
    const [name, unit] = MEASURED[key];
    return { key, name, unit, ...numbers, curves: rowsOf(curves).filter((row) => row.value !== null), edges: rowsOf(agreement) };
  };

  // Mean over seeds at each number of edges.
  function means(rows) {
    const by = new Map();
    for (const { edges: many, value } of rows) by.set(many, [...(by.get(many) || []), value]);
    return [...by].map(([many, values]) => [many, values.reduce((a, b) => a + b) / values.length]).sort((a, b) => a[0] - b[0]);
  }

  function curve(place, kind) {
    const { curves, name, divisor } = measured();
    const mine = curves.filter((row) => row.kind === kind);
    const [title, label, better] = KINDS[kind];
    if (!mine.length) return put(place, el("h3", {}, title), el("p", { class: "note" }, divisor.why ? `Not shown: ${divisor.why}.` : "Nothing was measured."));
    const present = Object.keys(ORDERS_OF).filter((order) => mine.some((row) => row.order === order));
    put(
      place,
      el("h3", {}, title, el("span", { class: "soft" }, ` (${better})`)),
      Plot.legend(present.map((order) => ORDERS_OF[order])),
      Plot.frame(
        place,
        {
          x: { low: 0, high: Math.max(...mine.map((row) => row.edges)), counts: true, label },
          y: { ...Plot.reach([...mine.map((row) => row.value), 1]), label: `share of the ${name}`, show: PERCENT },
          title: `${title}: share of the ${name} over the number of edges`,
          height: 290,
        },
        (x, y) =>
          [...present].reverse().map((order) => {
            const [series, shape] = ORDERS_OF[order];
            const rows = mine.filter((row) => row.order === order);
            const line = means(rows);
            return [
              order === "random" && rows.map((row) => Plot.mark(shape, `${series} small`, x(row.edges), y(row.value), 1.8)),
              Plot.line(series, line.map(([many, value]) => [x(many), y(value)])),
              line.map(([many, value]) => Plot.mark(shape, series, x(many), y(value), 3.5, `${order}, ${plural(many, "edge")}: ${PERCENT(value)}`)),
            ];
          }),
      ),
    );
  }

  function scatter(place, across, label) {
    const { edges, rank_correlations: ranks, unit } = measured();
    const correlation = ranks[`${across}_path_patching`];
    const rows = edges.filter((row) => row[across] !== null && row.path_patching !== null);
    if (!rows.length) return put(place);
    put(
      place,
      el("h3", {}, `${label[0].toUpperCase()}${label.slice(1)} against path patching`),
      el("p", { class: "note" }, `${plural(rows.length, "edge")}; Spearman's rank correlation ${signed(correlation)}.`),
      Plot.frame(
        place,
        {
          x: { ...Plot.reach(rows.map((row) => row[across])), label: across === "traced" ? "traced weight a prompt (score units)" : `attribution patching (${unit})` },
          y: { ...Plot.reach(rows.map((row) => row.path_patching)), label: `path patching (${unit})` },
          title: `${label} against path patching, one mark an edge`,
        },
        (x, y) =>
          rows.map((row) => Plot.mark("circle", "first open", x(row[across]), y(row.path_patching), 3.5, `${row.edge}: ${short(row[across])}, ${short(row.path_patching)} ${unit}`)),
      ),
    );
  }

  function areas() {
    const { areas: found, divisor } = measured();
    if (divisor.why) return el("p", { class: "note" }, `No areas under the curves: ${divisor.why}.`);
    const show = (each) => (each ? `${signed(each.mean)} [${signed(each.low)}, ${signed(each.high)}]` : "–");
    const orders = {
      traced: "Traced",
      attribution: "Attribution",
      random: "Random",
      traced_less_attribution: "Traced − attribution",
      traced_less_random: "Traced − random",
    };
    const kinds = Object.keys(KINDS).filter((kind) => found[kind]);
    return tableOf(
      "Areas under the curves",
      [
        { label: "Area under the curve [95%]", show: (order) => orders[order], text: true },
        ...kinds.map((kind) => ({ label: KINDS[kind][0], show: (order) => show(found[kind][order]) })),
      ],
      Object.keys(orders),
    );
  }

  const lost = (row) => (chosen() === "log_probability" ? row.ablation_log_probability : row.ablation);

  function heads() {
    const size = (row) => Math.abs(lost(row) ?? 0);
    const rows = rowsOf(data.heads).sort((a, b) => size(b) - size(a)).slice(0, LISTED);
    const { key, unit } = measured();
    const end = key === "logit_difference" ? "" : `_${key}`;
    const { [`rank_correlation${end}`]: rank, [`overlap${end}`]: overlap, overlap_by_chance: chance } = data.output_heads;
    const shared = typeof overlap === "number" ? `; of the root heads, ${percent(overlap, 1)} are among as many heads that ablation ranks first (by chance ${percent(chance ?? 0, 1)})` : "";
    return [
      el("h3", {}, "Heads that write the answer"),
      el("p", { class: "note" }, `Direct effect is what a head adds to the logit difference by itself; ablation, what is lost when its output is held at its mean. Rank correlation ${signed(rank)}${shared}.`),
      tableOf(
        "Heads that write the answer",
        [
          { label: "Head", show: (row) => `${row.layer}.${row.head}`, text: true },
          { label: `Ablation (${unit} lost)`, show: (row) => signed(lost(row)) },
          { label: "Direct effect (logits)", show: (row) => signed(row.direct) },
          { label: "Root head in", show: (row) => (row.chosen === null ? "–" : `${percent(row.chosen, 1)} of prompts`) },
        ],
        rows,
      ),
    ];
  }

  function words() {
    const { runs, name, unit, divisor } = measured();
    const [clean, nothing] = [runs.clean?.mean, runs.nothing?.mean];
    const writers = data.writers === "all" ? "heads, MLPs, embeddings and biases" : "heads alone";
    put(
      byId("faithfulness-words"),
      `${plural(data.prompts ?? 0, "prompt")}; ${count(data.counts.edges ?? 0)} traced of ${plural(data.counts.candidates ?? 0, "candidate edge")}, from ${writers}. `,
      clean !== undefined &&
        [
          `The ${name} is `,
          el("span", { class: "whole" }, `${signed(clean)} ${unit}`),
          ` as the model is (100% below) and ${signed(nothing)} with every signal held (0%). `,
        ],
      divisor.why && `Shares of their difference would say nothing: ${divisor.why}.`,
    );
  }

  return {
    start() {
      byId("by").addEventListener("input", (event) => State.set({ by: event.target.value }));
      const show = () => {
        byId("by").value = chosen();
      };
      State.on(["by"], show);
      show();
      const parts = {
        ...Object.fromEntries(Object.keys(KINDS).map((kind) => [`faithfulness-${kind}`, (place) => curve(place, kind)])),
        "agreement-traced": (place) => scatter(place, "traced", "traced weight"),
        "agreement-attribution": (place) => scatter(place, "attribution", "attribution patching"),
        "faithfulness-areas": (place) => put(place, areas()),
        "faithfulness-heads": (place) => put(place, heads()),
        "faithfulness-words": () => words(),
      };
      for (const [id, draw] of Object.entries(parts)) Plot.keep(byId(id), ["by"], () => draw(byId(id)));
    },
  };
})();

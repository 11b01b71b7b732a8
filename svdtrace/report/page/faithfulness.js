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
  const PERCENT = (value) => `${Math.round(100 * value)} %`;

  const curves = data ? rowsOf(data.curves).filter((row) => row.value !== null) : [];
  const edges = data ? rowsOf(data.agreement) : [];

  // Mean over seeds at each number of edges.
  function means(rows) {
    const by = new Map();
    for (const { edges: many, value } of rows) by.set(many, [...(by.get(many) || []), value]);
    return [...by].map(([many, values]) => [many, values.reduce((a, b) => a + b) / values.length]).sort((a, b) => a[0] - b[0]);
  }

  function curve(place, kind) {
    const mine = curves.filter((row) => row.kind === kind);
    const [title, label, better] = KINDS[kind];
    if (!mine.length) return put(place, el("h3", {}, title), el("p", { class: "note" }, "Nothing was measured."));
    const present = Object.keys(ORDERS_OF).filter((order) => mine.some((row) => row.order === order));
    put(
      place,
      el("h3", {}, title, el("span", { class: "soft" }, ` (${better})`)),
      Plot.legend(present.map((order) => ORDERS_OF[order])),
      Plot.frame(
        place,
        {
          x: { low: 0, high: Math.max(...mine.map((row) => row.edges)), counts: true, label },
          y: { ...Plot.reach([...mine.map((row) => row.value), 1]), label: "share of the logit difference", show: PERCENT },
          title: `${title}: share of the logit difference over the number of edges`,
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

  function scatter(place, across, label, correlation) {
    const rows = edges.filter((row) => row[across] !== null && row.path_patching !== null);
    if (!rows.length) return put(place);
    put(
      place,
      el("h3", {}, `${label[0].toUpperCase()}${label.slice(1)} against path patching`),
      el("p", { class: "note" }, `${plural(rows.length, "edge")}; Spearman's rank correlation ${short(correlation)}.`),
      Plot.frame(
        place,
        {
          x: { ...Plot.reach(rows.map((row) => row[across])), label: across === "traced" ? "traced weight a prompt (score units)" : "attribution patching (logits)" },
          y: { ...Plot.reach(rows.map((row) => row.path_patching)), label: "path patching (logits)" },
          title: `${label} against path patching, one mark an edge`,
          left: 64,
        },
        (x, y) =>
          rows.map((row) => Plot.mark("circle", "first open", x(row[across]), y(row.path_patching), 3.5, `${row.edge}: ${short(row[across])}, ${short(row.path_patching)} logits`)),
      ),
    );
  }

  function areas() {
    const found = data.summary.areas || {};
    const show = (each) => (each ? `${short(each.mean)} [${short(each.low)}, ${short(each.high)}]` : "–");
    const names = ["traced", "attribution", "random", "traced_less_attribution", "traced_less_random"];
    const titles = ["Traced", "Attribution", "Random", "Traced − attribution", "Traced − random"];
    return tableOf(
      "Areas under the curves",
      [
        { label: "Area under the curve [95 %]", show: (kind) => KINDS[kind][0], text: true },
        ...names.map((name, i) => ({ label: titles[i], show: (kind) => show(found[kind][name]), wide: i === 1 || i === 3 })),
      ],
      Object.keys(KINDS).filter((kind) => found[kind]),
    );
  }

  function heads() {
    const size = (row) => Math.abs(row.ablation ?? 0);
    const rows = rowsOf(data.heads).sort((a, b) => size(b) - size(a)).slice(0, LISTED);
    const { rank_correlation: rank, overlap } = data.summary.output_heads || {};
    const shared = typeof overlap === "number" ? `; of the root heads, ${percent(overlap, 1)} are among as many heads that ablation ranks first` : "";
    return [
      el("h3", {}, "Heads that write the answer"),
      el("p", { class: "note" }, `Direct effect is what a head adds to the logit difference by itself; ablation, what is lost when its output is held at its mean. Rank correlation ${short(rank)}${shared}.`),
      tableOf(
        "Heads that write the answer",
        [
          { label: "Head", show: (row) => `${row.layer}.${row.head}`, text: true },
          { label: "Ablation (logits lost)", show: (row) => signed(row.ablation) },
          { label: "Direct effect (logits)", show: (row) => signed(row.direct) },
          { label: "Root head in", show: (row) => (row.chosen === null ? "–" : `${percent(row.chosen, 1)} of prompts`) },
        ],
        rows,
      ),
    ];
  }

  function words() {
    const ends = data.summary.logit_difference || {};
    const clean = ends.clean?.mean,
      nothing = ends.nothing?.mean;
    const writers = data.writers === "all" ? "heads, MLPs, embeddings and biases" : "heads alone";
    put(
      byId("faithfulness-words"),
      `${plural(data.prompts ?? 0, "prompt")}; ${count(data.counts.edges ?? 0)} traced of ${plural(data.counts.candidates ?? 0, "candidate edge")}, from ${writers}. `,
      clean !== undefined && `The logit difference is ${short(clean)} as the model is, and ${short(nothing)} with no edge kept: 100 % and 0 % below.`,
    );
  }

  return {
    start() {
      words();
      for (const kind of Object.keys(KINDS)) Plot.keep(byId(`faithfulness-${kind}`), [], () => curve(byId(`faithfulness-${kind}`), kind));
      put(byId("faithfulness-areas"), areas());
      const ranks = data.summary.rank_correlations || {};
      Plot.keep(byId("agreement-traced"), [], () => scatter(byId("agreement-traced"), "traced", "traced weight", ranks.traced_path_patching));
      Plot.keep(byId("agreement-attribution"), [], () => scatter(byId("agreement-attribution"), "attribution", "attribution patching", ranks.attribution_path_patching));
      put(byId("faithfulness-heads"), heads());
    },
  };
})();

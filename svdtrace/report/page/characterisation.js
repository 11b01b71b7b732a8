// Characterisation: slices where heads fire and where they do not, what τ costs, and the tokens that a head picks out.
const Characterisation = (() => {
  const LISTED = 16;
  const data = DATA.characterisation;
  const NAMES = { prompts: "prompts", contrast: "contrast" };
  const LOOKS = { prompts: { firing: "first", idle: "second" }, contrast: { firing: "first dashed", idle: "second dashed" } };

  const heads = data ? rowsOf(data.heads).map((row) => ({ ...row, name: `${row.layer}.${row.head}` })) : [];
  const mine = heads.filter((row) => row.data_set === "prompts" && row.firings > 0).sort((a, b) => b.firings - a.firings);
  const beside = new Map(heads.filter((row) => row.data_set === "contrast").map((row) => [row.name, row]));
  const tokens = data ? rowsOf(data.tokens).map((row) => ({ ...row, name: `${row.layer}.${row.head}` })) : [];
  const chosen = () => {
    const known = (name) => mine.find((row) => row.name === name);
    return known(State.get("task")) || known(chosenHead()?.name) || mine[0];
  };

  function sizes(place) {
    const series = data.sets.flatMap(({ name }) =>
      ["firing", "idle"].map((kind) => {
        const counts = data.sizes[name][kind];
        const whole = counts.reduce((a, b) => a + b, 0);
        return { set: name, kind, whole, shares: counts.map((each) => each / Math.max(1, whole)) };
      }),
    );
    const drawn = series.filter((each) => each.whole > 0);
    const high = Math.max(1, ...drawn.map((each) => each.shares.findLastIndex((share) => share > 0.002)));
    const what = { firing: "heads fire", idle: "they do not" };
    const shape = { firing: "circle", idle: "square" };
    put(
      place,
      el("h3", {}, "Vectors in a slice, |S|"),
      Plot.legend(
        drawn.map(({ set, kind, whole }) => [LOOKS[set][kind], shape[kind], `${NAMES[set]}, ${what[kind]} (${count(whole)} pairs)`]),
      ),
      Plot.frame(
        place,
        {
          x: { low: 0, high, label: "vectors in a slice, |S|" },
          y: { low: 0, high: 1.05 * Math.max(0.01, ...drawn.flatMap((each) => each.shares)), label: "share of pairs", show: (value) => `${Math.round(100 * value)}%` },
          title: "Slice sizes where heads fire and where they do not",
        },
        (x, y) =>
          drawn.map(({ set, kind, shares }) => {
            const points = shares.slice(0, high + 1).map((share, size) => [x(size), y(share)]);
            const text = (i) => `${NAMES[set]}, ${what[kind]}: |S| = ${i} in ${(100 * shares[i]).toFixed(1)}%`;
            return [
              Plot.line(LOOKS[set][kind], points),
              points.map(([left, top], i) => Plot.mark(shape[kind], LOOKS[set][kind], left, top, 3, text(i))),
            ];
          }),
      ),
    );
  }

  function tau(place, measure, title, y) {
    const rows = rowsOf(data.tau).filter((row) => row[measure] !== null);
    if (!rows.length) return put(place);
    const { low, high } = Plot.reach(rows.map((row) => row[measure]), false);
    put(
      place,
      el("h3", {}, title),
      Plot.legend(data.sets.map(({ name }) => [LOOKS[name].firing, "circle", NAMES[name]])),
      Plot.frame(
        place,
        {
          x: { low: Math.min(...rows.map((row) => row.tau)), high: Math.max(...rows.map((row) => row.tau)), label: "τ, share of the score that a slice must exceed" },
          y: { low: Math.min(low, high - 0.01), high, ...y },
          title,
        },
        (x, up) =>
          data.sets.map(({ name }) => {
            const points = rows.filter((row) => row.data_set === name).sort((a, b) => a.tau - b.tau);
            return [
              Plot.line(LOOKS[name].firing, points.map((row) => [x(row.tau), up(row[measure])])),
              points.map((row) => Plot.mark("circle", LOOKS[name].firing, x(row.tau), up(row[measure]), 3.5, `${NAMES[name]}, τ ${row.tau}: ${short(row[measure])}`)),
            ];
          }),
      ),
    );
  }

  function ranked(head, side) {
    const rows = tokens.filter((row) => row.name === head.name && row.side === side).sort((a, b) => a.rank - b.rank);
    const most = Math.max(...rows.map((row) => row.norm), 1e-9);
    const auc = head[`auc_${side}`];
    return el(
      "div",
      {},
      el("h4", {}, `On the ${SIDE_NAMES[side]} (${side === "dest" ? "destination" : "source"})`),
      auc !== null && el("p", { class: "note" }, `A name stands before another token ${short(auc)} of the time (0.5: by chance, 1: always).`),
      rows.length
        ? el(
            "ol",
            { class: "bars ranked" },
            rows.map((row) =>
              el(
                "li",
                {},
                el("code", {}, visible(row.string).replace(/^ /, "␣") || "∅"),
                el("span", { class: "track" }, el("span", { class: row.named ? "bar" : "bar other", style: { width: `${(100 * row.norm) / most}%` } })),
                el("span", { class: "number", title: `at ${plural(row.count, "place")}` }, short(row.norm)),
              ),
            ),
          )
        : el("p", { class: "note" }, "No vectors are used often enough."),
    );
  }

  function drawTokens() {
    const head = chosen();
    byId("task").value = head.name;
    put(
      byId("characterisation-tokens"),
      ["dest", "src"].map((side) => ranked(head, side)),
    );
  }

  function table() {
    const number = (name) => (row) => short(row[name]);
    const other = (name) => (row) => short(beside.get(row.name)?.[name]);
    const columns = [
      { label: "Head", show: (row) => row.name, text: true },
      { label: "Firings", show: (row) => count(row.firings) },
      { label: "Mean |S|", show: number("mean_size") },
      { label: "not firing", show: number("idle_mean_size"), title: "mean |S| at pairs where the head does not fire" },
      ...(beside.size
        ? [
            { label: "Firings, contrast", show: other("firings"), wide: true },
            { label: "Mean |S|, contrast", show: other("mean_size"), wide: true },
          ]
        : []),
      { label: "names first, query", show: number("auc_dest"), wide: true, title: "names against other tokens, query side" },
      { label: "names first, key", show: number("auc_src"), wide: true, title: "names against other tokens, key side" },
      { label: "Vectors in half of its slices", show: (row) => row.used.join(", ") || "–", text: true },
    ];
    put(byId("characterisation-heads"), tableOf("Heads that fire most", columns, mine.slice(0, LISTED)));
  }

  function words() {
    const each = ({ name, prompts, firings, idle_pairs: idle, mean_size: size, idle_mean_size: rest }) =>
      `${name === "contrast" ? "The contrast" : "The prompts"}: ${plural(prompts ?? 0, "prompt")}, ${plural(firings ?? 0, "firing")} with ${short(size)} vectors in a slice on average, ${short(rest)} at ${plural(idle ?? 0, "pair")} where heads do not fire.`;
    put(byId("characterisation-words"), data.sets.map((set) => [each(set), " "]));
  }

  return {
    start() {
      words();
      Plot.keep(byId("characterisation-sizes"), [], () => sizes(byId("characterisation-sizes")));
      Plot.keep(byId("characterisation-size-tau"), [], () =>
        tau(byId("characterisation-size-tau"), "mean_size", "What τ costs: vectors", { label: "mean |S| of firings" }),
      );
      Plot.keep(byId("characterisation-kept-tau"), [], () =>
        tau(byId("characterisation-kept-tau"), "kept_of_sum", "What τ keeps: score", {
          label: "share of the score in the slice",
          show: (value) => `${Math.round(100 * value)}%`,
        }),
      );
      table();
      if (!mine.length) return;
      put(byId("task"), mine.map((row) => el("option", { value: row.name }, `${row.name} (${plural(row.firings, "firing")})`)));
      byId("task").addEventListener("input", (event) => State.set({ task: event.target.value }));
      State.on(["task", "head"], drawTokens);
      drawTokens();
    },
  };
})();

// Interventions: what an edit of a signal does to the output, beside the same edit of random vectors.
const Interventions = (() => {
  const MEASURES = {
    logit_difference: "change of the logit difference, answer − distractor (logits)",
    pattern: "change of the reader's attention (share, 0 to 1)",
    score: "change of the reader's attention score",
    kl: "KL divergence of the next token's distribution (nats)",
  };
  const CONTROLS = { random: "random vectors, as many", norm: "random vectors, scaled to the signal's norm" };
  const STEP = 26;
  const DEFAULT_PLACE = { where: "global", way: "ablate" };

  const data = DATA.interventions || { sets: [], rows: {} };
  const rows = data.sets.length ? rowsOf(data.rows) : [];
  const asked = (key, name) => {
    const known = [...new Set(rows.map((row) => row[name]))];
    const wanted = State.get(key) || DEFAULT_PLACE[key];
    return known.includes(wanted) ? wanted : known[0];
  };

  // The signals in view, the largest effect first, each with its controls.
  function inView() {
    const [where, way, measure] = [asked("where", "where"), asked("way", "direction"), State.get("measure")];
    const mine = rows.filter((row) => row.where === where && row.direction === way);
    const size = (row) => Math.abs(row[measure] ?? 0);
    const signals = mine.filter((row) => row.control === "none" && row.prompts > 0).sort((a, b) => size(b) - size(a));
    const shown = signals.slice(0, State.number("sets", 5, 250));
    const controls = (row) => mine.filter((other) => other.control !== "none" && other.set === row.set);
    return { measure, signals, shown: shown.map((row) => ({ row, name: data.sets[row.set], controls: controls(row) })) };
  }

  function whisker(row, measure, x, y, series, shape) {
    const [value, low, high] = ["", "_low", "_high"].map((end) => row[`${measure}${end}`]);
    if (value === null) return null;
    const control = row.control === "none" ? "signal" : CONTROLS[row.control] || row.control;
    return [
      low !== null && svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: `series ${series} whisker` }),
      Plot.mark(shape, series, x(value), y, 4, `${control}: ${interval(row, measure)}, ${plural(row.prompts, "prompt")}`),
    ];
  }

  function forest(place, { measure, shown }) {
    const narrow = place.clientWidth < 560;
    const left = narrow ? 148 : 250;
    const cut = narrow ? 21 : 38;
    const all = shown.flatMap(({ row, controls }) => [row, ...controls]);
    const values = all.flatMap((row) => ["", "_low", "_high"].map((end) => row[`${measure}${end}`]));
    const height = shown.length * STEP + 82;
    const top = (i) => 38 + i * STEP;
    return Plot.frame(
      place,
      {
        x: { ...Plot.reach(values), label: narrow ? MEASURES[measure].replace(/, answer.*?(?= \()/, "") : MEASURES[measure] },
        y: { low: 0, high: 0, label: "", show: () => "" },
        title: `${MEASURES[measure]} for ${plural(shown.length, "set")} of edges; the table below holds the same`,
        height,
        left,
      },
      (x) => [
        svg("line", { x1: x(0), x2: x(0), y1: 20, y2: height - 44, class: "base" }),
        shown.map(({ row, name, controls }, i) => [
          svg("text", { x: left - 8, y: top(i) + 4, class: "left name" }, name.length > cut ? `${name.slice(0, cut - 1)}…` : name, svg("title", {}, name)),
          controls.map((control, j) => whisker(control, measure, x, top(i) + 6 + 5 * j, j ? "third" : "second", j ? "triangle" : "square")),
          whisker(row, measure, x, controls.length ? top(i) - 3 : top(i), "first", "circle"),
        ]),
      ],
    );
  }

  // The connection that a single edge's name, WRITER:READER@DEST:SRC/SIDE, belongs to.
  function connectionOf(name) {
    const parts = /^([^:,]+):([^@,]+)@([^,]*):([^,]*)\/(dest|src)$/.exec(name);
    if (!parts) return null;
    const [, writer, reader, dest, src, side] = parts;
    return CONNECTION.get(`${writer}:${reader}@${side === "dest" ? dest : src}/${side}`) || null;
  }

  function named({ name }) {
    const connection = connectionOf(name);
    return connection
      ? button(whole(name), () => go("circuit", { pick: connection.id }), { title: "Show in the circuit", "data-key": name })
      : whole(name);
  }

  function columns(measure) {
    const verdict = { true: "yes", false: "no", null: "–" };
    return [
      { label: "Edges", show: named, text: true },
      { label: "Prompts", show: ({ row }) => count(row.prompts), title: "in which the edges are, and were edited" },
      { label: "Change [95%]", show: ({ row }) => interval(row, measure) },
      { label: "Controls' change", show: ({ controls }) => controls.map((each) => interval(each, measure)).join("; ") || "–", wide: true },
      { label: "Excess [95%]", show: ({ row }) => interval(row, "excess"), wide: true, title: "by how much more the signal moves the logit difference than its controls do" },
      { label: "More than chance", show: ({ row }) => verdict[row.exceeds], text: true, title: data.chance },
      { label: "Norm ratio", show: ({ row }) => short(row.norm_ratio), wide: true, title: "length of what was edited, after / before" },
      { label: "Cosine", show: ({ row }) => short(row.cosine), wide: true, title: "between what was edited before and after" },
    ];
  }

  function draw() {
    const place = byId("interventions-chart");
    const view = inView();
    const kinds = [...new Set(view.shown.flatMap(({ controls }) => controls.map((row) => row.control)))];
    const judged = view.signals.filter((row) => row.exceeds !== null);
    byId("interventions-shown").textContent = `${count(view.shown.length)} of ${plural(view.signals.length, "set")} of edges that were edited`;
    put(
      place,
      judged.length > 0 &&
        el("p", { title: data.chance }, `${count(judged.filter((row) => row.exceeds).length)} of ${plural(judged.length, "signal")} move the logit difference more than their controls do, chance and tiny effects aside.`),
      Plot.legend([
        ["first", "circle", "signal, with the 95% interval of its mean over prompts"],
        ...kinds.map((kind, i) => [i ? "third" : "second", i ? "triangle" : "square", `control: ${CONTROLS[kind] || kind}`]),
      ]),
      view.shown.length ? forest(place, view) : el("p", { class: "note" }, "No prompt was edited."),
    );
    put(byId("interventions-table"), view.shown.length > 0 && tableOf("Interventions", columns(view.measure), view.shown));
  }

  function choices(id, name) {
    const known = [...new Set(rows.map((row) => row[name]))];
    put(byId(id), known.map((each) => el("option", { value: each }, each)));
    byId(id).addEventListener("input", (event) => State.set({ [id]: event.target.value }));
    const show = () => {
      byId(id).value = asked(id, name);
    };
    State.on([id], show);
    show();
  }

  return {
    start() {
      // Without an answer and a distractor there is no logit difference to move.
      if (rows.every((row) => row.logit_difference === null) && State.get("measure") === "logit_difference") State.set({ measure: "pattern" });
      choices("where", "where");
      choices("way", "direction");
      for (const id of ["measure", "sets"]) bind(id, id);
      Plot.keep(byId("interventions-chart"), ["where", "way", "measure", "sets"], draw);
    },
  };
})();

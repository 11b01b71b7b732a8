// What is known of the picked node or connection, beside the circuit.
const Details = (() => {
  const LISTED = 8;

  function connectionButton(connection, text) {
    return button(
      [
        el("span", { class: `key ${connection.side}`, "aria-hidden": "true" }),
        el("span", { class: "grow" }, text),
        el("span", { class: "number" }, short(connection.total)),
      ],
      () => Circuit.pick(connection.id),
      {
        class: "line",
        "data-key": connection.id,
        title: connection.id,
        "aria-label": `${connection.id}, total ${short(connection.total)}`,
      },
    );
  }

  function list(title, connections, text) {
    if (!connections.length) return null;
    const more = connections.length - LISTED;
    return [
      el("h4", {}, title),
      el(
        "ul",
        { class: "lines" },
        connections.slice(0, LISTED).map((each) => el("li", {}, connectionButton(each, text(each)))),
      ),
      more > 0 && el("p", { class: "note" }, `and ${count(more)} weaker, in the table of edges`),
    ];
  }

  const facts = (pairs) =>
    el(
      "dl",
      { class: "facts" },
      pairs.filter(Boolean).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    );

  // Singular vectors with the share of the firings whose slice holds them.
  function slices(vectors, times) {
    const chips = [];
    for (let i = 0; i < vectors.length; i += 2) {
      const share = vectors[i + 1] / times;
      chips.push(
        el(
          "li",
          { style: { "--share": share.toFixed(3) } },
          el("b", {}, vectors[i]),
          ` ${percent(vectors[i + 1], times)}`,
        ),
      );
    }
    return el("ul", { class: "slice" }, chips);
  }

  function examples(connection) {
    const found = PROMPTS.filter((prompt) =>
      prompt.firings.some(
        (firing) =>
          firing.name === connection.reader &&
          roleOf(prompt, firing[connection.side]) === connection.role &&
          firing.edges.some((edge) => edge.side === connection.side && edge.writer === connection.writer),
      ),
    ).slice(0, 5);
    return (
      found.length > 0 && [
        el("h4", {}, "In single prompts"),
        el(
          "p",
          { class: "chips" },
          found.map((prompt) =>
            button(
              String(prompt.prompt),
              () => {
                go("prompts", { prompt: prompt.prompt, show: connection.reader, token: "" });
              },
              { "data-key": `prompt ${prompt.prompt}`, "aria-label": `Show prompt ${prompt.prompt}` },
            ),
          ),
        ),
      ]
    );
  }

  function ofConnection(connection) {
    const { writer, reader, role, side } = connection;
    const decides = side === "dest" ? "what it looks for (its query)" : "that it is looked at (its key)";
    const who = writer.kind === "head" ? `Head ${writer.name}` : writer.name;
    return [
      el("h3", {}, `${writer.name} → ${reader} `, el("span", { class: `tag ${side}` }, SIDE_NAMES[side])),
      el(
        "p",
        {},
        `${who} wrote to the token in the role “${role}”; head ${reader} read it there, and it helped to decide ${decides}.`,
      ),
      facts([
        [
          "prompts",
          `${count(connection.prompts)} of ${count(DATA.n_prompts)} (${percent(connection.prompts, DATA.n_prompts)})`,
        ],
        ["edges counted together", count(connection.count)],
        ["mean weight", short(connection.weight)],
        ["total weight", short(connection.total)],
        [`median share of ${DATA.written} to its side`, connection.share === null ? "–" : percent(connection.share, 1)],
        ...EVIDENCE.filter(({ key }) => key in connection).map(({ key, name, show }) => [name, show(connection[key])]),
        DATA.not_asked.chance && ["chance", el("span", {}, "not asked: ", el("code", {}, "svdtrace trace … --nulls 199"))],
        connection.near_tie > 0 && ["near a tie", count(connection.near_tie)],
        connection.nonpositive > 0 && ["side's total not positive", count(connection.nonpositive)],
      ]),
      el("h4", {}, `Singular vectors of ${reader} in the slices`),
      slices(connection.vectors, connection.count),
      examples(connection),
      el(
        "p",
        { class: "chips" },
        button(`Reader ${reader}@${role}`, () => Circuit.pick(`${reader}@${role}`), { "data-key": "reader" }),
        button(`Writer ${writer.name}@${role}`, () => Circuit.pick(`${writer.name}@${role}`), { "data-key": "writer" }),
      ),
    ];
  }

  function ofNode(id) {
    const cut = id.indexOf("@");
    const [name, role] = [id.slice(0, cut), id.slice(cut + 1)];
    const reads = CONNECTIONS.filter((each) => each.reader === name && each.role === role);
    const writes = CONNECTIONS.filter((each) => each.writer.name === name && each.role === role);
    const head = HEAD.get(name);
    const moves = MOVES.filter((move) => move.name === name && (move.dest === role || move.src === role));
    const from = (each) => `${each.writer.name} (${SIDE_NAMES[each.side]})`;
    return [
      el("h3", {}, `${name} at ${role} `, isRoot(name, role) && el("span", { class: "tag" }, "root")),
      head &&
        el(
          "p",
          {},
          `Head ${name} fires ${plural(head.firings, "time")} in ${plural(head.prompts, "prompt")}, with ${short(head.size)} of ${DATA.vectors} singular vectors on average.`,
        ),
      !head && /^\d/.test(name) && el("p", {}, `Head ${name} writes here; it has no firings of its own in this trace.`),
      moves.length > 0 && [
        el("h4", {}, "Attention"),
        el(
          "ul",
          { class: "plain" },
          moves
            .slice(0, 6)
            .map((move) =>
              el(
                "li",
                {},
                `from ${move.dest} to ${move.src}: ${plural(move.count, "firing")} in ${plural(move.prompts, "prompt")}, mean ${short(move.pattern)}, mean |S| ${short(move.size)}`,
              ),
            ),
        ),
      ],
      list(`Reads at ${role}`, reads, from),
      list(`Read by others at ${role}`, writes, (each) => `${each.reader} (${SIDE_NAMES[each.side]})`),
      el(
        "p",
        { class: "chips" },
        button(`Only edges of ${name}`, () => State.set({ focus: name }), { "data-key": "focus" }),
        head && button("Its dimensions", () => go("dimensions", { head: name }), { "data-key": "dimensions" }),
      ),
    ];
  }

  function draw() {
    const picked = State.get("pick");
    const connection = CONNECTION.get(picked);
    const known = connection || (picked.includes("@") && !picked.includes(":"));
    put(
      byId("details"),
      known
        ? connection
          ? ofConnection(connection)
          : ofNode(picked)
        : [
            el("h3", {}, "Nothing picked"),
            el(
              "p",
              {},
              "Pick a head or a line to see what it is made of. With the keyboard: focus the drawing, then the arrow keys.",
            ),
            list("The strongest", ORDERS.total, (each) => `${each.writer.name} → ${each.reader} at ${each.role}`),
          ],
      known && el("p", { class: "save" }, button(CircuitPicks.isPinned(picked) ? "Unpin" : connection ? "Pin both ends" : "Pin", () => CircuitPicks.pinPicked(), { "data-key": "pin" })),
    );
    byId("details").classList.toggle("idle", !known);
  }

  return {
    start() {
      State.on(["pick", "kept"], draw);
      draw();
    },
    draw,
    slices,
  };
})();

// One prompt: its tokens with their roles, the firings of a head as arrows, and the edges at a token.
function roleOf(prompt, position) {
  const found = prompt.roles.findLast(([, at]) => at === position);
  return found ? found[0] : "other";
}

// Ids, where there is no tokenizer, would run together.
const betweenTokens = (prompt) => (prompt.strings.every((text) => /^\d+$/.test(text)) ? " " : "");
const promptName = (prompt) =>
  [prompt.prompt, prompt.id, visible(prompt.text ?? prompt.strings.join(betweenTokens(prompt))).trim().slice(0, 70)]
    .filter((each) => each !== null)
    .join(" · ");

const Prompts = (() => {
  const LISTED = 60;
  const current = () => PROMPTS.find((prompt) => String(prompt.prompt) === State.get("prompt")) || PROMPTS[0];

  // The head shown: the one asked for, else a root that fires here, else the uppermost that fires.
  function shownHead(prompt) {
    const asked = State.get("show");
    if (asked) return asked;
    const root = prompt.firings.findLast((firing) => isRoot(firing.name, roleOf(prompt, firing.dest)));
    return (root || prompt.firings.at(-1))?.name || "all";
  }

  function token(prompt, text, position) {
    const role = roleOf(prompt, position);
    const chosen = State.get("token") === String(position);
    return el(
      "li",
      {},
      button(
        [
          el("span", { class: "text" }, visible(text) || "∅"),
          el("span", { class: "role" }, role === "other" ? String(position) : role),
        ],
        () => State.set({ token: chosen ? "" : position }),
        {
          class: role === "other" ? "token" : "token named",
          "aria-pressed": String(chosen),
          "data-token": position,
          "data-key": `token ${position}`,
          "aria-label": `token ${position}: ${text}${role === "other" ? "" : `, ${role}`}`,
        },
      ),
    );
  }

  function headButtons(prompt, shown) {
    const times = new Map();
    for (const { name } of prompt.firings) times.set(name, (times.get(name) || 0) + 1);
    const names = [...times.keys()].reverse();
    const one = (value, label) =>
      button(label, () => State.set({ show: value }), {
        "aria-pressed": String(value === shown),
        "data-key": `show ${value}`,
        class: isRoot(value) ? "root" : null,
      });
    return [
      one("all", "all heads"),
      names.map((name) => one(name, times.get(name) > 1 ? `${name} ×${times.get(name)}` : name)),
      shown !== "all" && !times.has(shown) && one(shown, `${shown} ×0`),
    ];
  }

  const place = (prompt, position) => [
    el("code", {}, visible(prompt.strings[position])),
    ` ${roleOf(prompt, position) === "other" ? position : roleOf(prompt, position)}`,
  ];

  function edgeList(edges) {
    if (!edges.length) return "–";
    return el(
      "ul",
      { class: "inline" },
      edges.map((edge) => el("li", {}, edge.writer.name, " ", el("span", { class: "soft" }, short(edge.weight)))),
    );
  }

  function firingRow(prompt, firing) {
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, firing.name),
      el("td", {}, place(prompt, firing.dest)),
      el("td", {}, place(prompt, firing.src)),
      el("td", { class: "number wide" }, percent(firing.pattern, 1)),
      el("td", { class: "number wide" }, el("span", { title: `vectors ${firing.slice.join(", ")}` }, firing.slice.length)),
      el("td", {}, edgeList(firing.edges.filter((edge) => edge.side === "dest"))),
      el("td", {}, edgeList(firing.edges.filter((edge) => edge.side === "src"))),
    );
  }

  function firingTable(prompt, firings) {
    if (!firings.length) return el("p", { class: "note" }, "No firing of this kind in this prompt.");
    const titles = [
      "Head",
      "Writes to",
      "Reads from",
      "Attention",
      "|S|",
      "Heads behind the query (weight)",
      "Heads behind the key (weight)",
    ];
    return [
      el(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Firings" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              titles.map((title, i) => el("th", { scope: "col", class: i === 3 || i === 4 ? "number wide" : null }, title)),
            ),
          ),
          el(
            "tbody",
            {},
            firings.slice(0, LISTED).map((firing) => firingRow(prompt, firing)),
          ),
        ),
      ),
      firings.length > LISTED &&
        el("p", { class: "note" }, `and ${count(firings.length - LISTED)} more; choose a head or a token`),
    ];
  }

  function firingRows(prompt, firings) {
    const behind = (firing, side) => firing.edges.filter((edge) => edge.side === side).map((edge) => `${edge.writer.name} ${edge.weight}`).join("; ");
    return [
      ["head", "dest", "dest token", "src", "src token", "attention", "slice", "behind the query", "behind the key"],
      ...firings.map((firing) => [firing.name, firing.dest, prompt.strings[firing.dest], firing.src, prompt.strings[firing.src], firing.pattern, firing.slice.join(" "), behind(firing, "dest"), behind(firing, "src")]),
    ];
  }

  function edgesAt(prompt, position) {
    const edges = prompt.firings.flatMap((firing) =>
      firing.edges.filter((edge) => firing[edge.side] === position).map((edge) => ({ ...edge, firing })),
    );
    edges.sort((a, b) => b.weight - a.weight);
    return [
      el(
        "h3",
        {},
        "Edges at ",
        el("code", {}, visible(prompt.strings[position])),
        ` (${roleOf(prompt, position)}, position ${position})`,
      ),
      edges.length === 0
        ? el("p", { class: "note" }, "No edge runs through this token.")
        : el(
            "ul",
            { class: "lines columns" },
            edges.slice(0, LISTED).map((edge) => {
              const id = `${edge.writer.name}:${edge.firing.name}@${roleOf(prompt, position)}/${edge.side}`;
              return el(
                "li",
                {},
                button(
                  [
                    el("span", { class: `key ${edge.side}`, "aria-hidden": "true" }),
                    el(
                      "span",
                      { class: "grow" },
                      `${edge.writer.name} → ${edge.firing.name}`,
                      el("span", { class: "soft" }, ` ${SIDE_NAMES[edge.side]}`),
                    ),
                    el("span", { class: "number" }, short(edge.weight)),
                  ],
                  () => go("circuit", { pick: id }),
                  { class: "line", "data-key": id, title: "Show in the circuit" },
                ),
              );
            }),
          ),
    ];
  }

  function answer(prompt) {
    if (prompt.logit_difference === null) return null;
    const [likes, other] =
      prompt.logit_difference >= 0 ? [prompt.answer, prompt.distractor] : [prompt.distractor, prompt.answer];
    return [
      prompt.logit_difference >= 0 ? "The model prefers the answer " : "The model prefers the distractor ",
      el("code", {}, visible(likes)),
      " over ",
      el("code", {}, visible(other)),
      `: logit difference ${short(prompt.logit_difference)}.`,
    ];
  }

  function draw() {
    const prompt = current();
    const shown = shownHead(prompt);
    const at = State.get("token") === "" ? -1 : State.number("token", 0, prompt.strings.length - 1);
    const ofHead = shown === "all" ? prompt.firings : prompt.firings.filter((firing) => firing.name === shown);
    const touching =
      at < 0 || shown !== "all" ? ofHead : ofHead.filter((firing) => firing.dest === at || firing.src === at);
    const index = PROMPTS.indexOf(prompt);
    byId("prompt-select").value = String(prompt.prompt);
    byId("prompt-previous").disabled = index <= 0;
    byId("prompt-next").disabled = index >= PROMPTS.length - 1;
    put(
      byId("prompt-facts"),
      prompt.id !== null && el("span", { class: "tag" }, prompt.id),
      " ",
      answer(prompt),
      ` ${plural(prompt.firings.length, "firing")}.`,
    );
    put(byId("prompt-heads"), headButtons(prompt, shown));
    put(
      byId("tokens"),
      prompt.strings.map((text, position) => token(prompt, text, position)),
    );
    put(byId("prompt-firings"), firingTable(prompt, touching), touching.length > 0 && el("p", { class: "save" }, Saving.table(() => firingRows(prompt, touching), () => `firings of prompt ${prompt.prompt}`)));
    put(
      byId("prompt-edges"),
      at >= 0 ? edgesAt(prompt, at) : el("p", { class: "note" }, "Pick a token to see the edges that run through it."),
    );
    arrows(prompt, ofHead, shown, at);
  }

  // The firings of the head shown, and those one step below: what the heads behind its edges did to write there.
  function arrows(prompt, firings, shown, at) {
    const chosen = (firing) =>
      at < 0 ? shown !== "all" || isRoot(firing.name) : firing.dest === at || firing.src === at;
    const kinds = new Map(firings.map((firing) => [firing, chosen(firing) ? "strong" : "faint"]));
    for (const firing of shown === "all" ? [] : firings.filter(chosen)) {
      for (const edge of firing.edges) {
        const below = prompt.firings.filter(
          (other) => other.name === edge.writer.name && other.dest === firing[edge.side],
        );
        for (const other of below) if (!kinds.has(other)) kinds.set(other, edge.side);
      }
    }
    drawArcs(
      byId("tokens-frame"),
      byId("arcs"),
      [...kinds].map(([firing, kind]) => ({ firing, kind })),
    );
  }

  function turn(by) {
    const next = PROMPTS[PROMPTS.indexOf(current()) + by];
    if (next) State.set({ prompt: next.prompt, token: "", see: "" });
  }

  return {
    start() {
      put(
        byId("prompt-select"),
        PROMPTS.map((prompt) => el("option", { value: prompt.prompt }, promptName(prompt))),
      );
      byId("prompt-select").addEventListener("change", (event) => State.set({ prompt: event.target.value, token: "", see: "" }));
      byId("prompt-previous").addEventListener("click", () => turn(-1));
      byId("prompt-next").addEventListener("click", () => turn(1));
      State.on(["prompt", "show", "token"], draw);
      draw();
      onWidth(byId("tokens-frame"), draw);
    },
  };
})();

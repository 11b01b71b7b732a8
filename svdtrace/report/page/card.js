// The card of a head at a token, or of a line into it: where it looks, through which singular vectors, who wrote them,
// and what is left of it. Of the first prompts all is known; of later ones what the tables say.
const Cards = (() => {
  const SHOWN = 6;
  const whole = new Map();

  async function unpack() {
    for (const { prompt, cards } of await unpacked(DATA.cards)) {
      whole.set(prompt, new Map(cards.map((card) => [card.at.join(" "), card])));
    }
  }

  const of = (prompt, firing) => whole.get(prompt.prompt)?.get([firing.layer, firing.head, firing.dest, firing.src].join(" "));
  const relative = DATA.method === "relative";
  // One decimal below ten percent, and where it is nearly all.
  function share(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size > 0 && size < 0.0005) return value > 0 ? "<0.1%" : ">-0.1%";
    return size < 0.0995 || (size >= 0.995 && size < 1.0005) ? `${(100 * value).toFixed(1)}%` : percent(value, 1);
  }

  const weight = (value) => (relative ? share(value) : short(value));
  const nameAt = (prompt, token) => (roleOf(prompt, token) === "other" ? String(token) : roleOf(prompt, token));
  const word = (prompt, token) => [el("code", {}, visible(prompt.strings[token]) || "∅"), ` (${nameAt(prompt, token)})`];
  const plain = (prompt, token) => `“${visible(prompt.strings[token])}” (${nameAt(prompt, token)})`;

  // Where it looks: the strongest tokens, the one attended to always among them.
  function looks(prompt, firing, card) {
    if (!card) return null;
    const order = card.pattern.map((_, token) => token).sort((a, b) => card.pattern[b] - card.pattern[a]);
    const shown = order.slice(0, SHOWN);
    if (!shown.includes(firing.src)) shown[shown.length - 1] = firing.src;
    const rest = order.filter((token) => !shown.includes(token));
    const row = (token) =>
      el(
        "tr",
        { class: token === firing.src ? "picked" : null },
        el("th", { scope: "row" }, word(prompt, token)),
        el("td", { class: "number" }, share(card.pattern[token])),
        el("td", {}, meter(card.pattern[token], token === firing.src ? "src" : "")),
        el("td", { class: "number" }, short(card.scores[token])),
        card.path && el("td", { class: "number" }, short(card.path[token])),
      );
    return [
      el("h4", {}, "Where it looks"),
      table(["Token", "Attention", "", "Score", ...(card.path ? ["M"] : [])], shown.map(row)),
      rest.length > 0 &&
        el("p", { class: "note" }, `${plural(rest.length, "other token")}: ${share(rest.reduce((sum, token) => sum + card.pattern[token], 0))} together`),
    ];
  }

  const meter = (value, kind) =>
    el("span", { class: "meter" }, el("span", { class: kind, style: { width: `${(100 * Math.min(1, Math.max(0, value))).toFixed(1)}%` } }));

  function table(titles, rows) {
    const head = titles.map((title, i) => el("th", { scope: "col", class: i && title ? "number" : null }, title || el("span", { class: "hidden" }, "bar")));
    return el("div", { class: "scroll" }, el("table", { class: "small" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
  }

  // What the head itself writes for the output, among the others that do.
  function effectOf(prompt, firing) {
    const sorted = [...prompt.effects].sort((a, b) => b[1] - a[1]);
    const place = sorted.findIndex(([name]) => name === firing.name);
    const last = Math.max(...prompt.firings.map((each) => each.dest));
    if (place < 0 || firing.dest !== last) return null;
    const unit = DATA.roots === "probability" ? "nats of log-probability" : "logits";
    const target = prompt.target === null ? "the output" : `“${visible(prompt.target)}”`;
    return `Direct effect on ${target}: ${short(sorted[place][1])} ${unit}, ${place ? `number ${place + 1}` : "the largest"} of ${plural(sorted.length, "head")}.`;
  }

  // The vectors that make the score; of a line, how much of it goes through each.
  function vectors(firing, card, edge) {
    if (!card) return [el("h4", {}, "Through what"), el("p", {}, `${plural(firing.slice.length, "singular vector")}: ${firing.slice.join(", ")}.`)];
    const largest = Math.max(...card.vectors.map(([, product]) => Math.abs(product)), 1e-9);
    const by = (most) => (most ? `${most[0]} ${weight(most[1])}` : "–");
    return [
      el("h4", {}, "Through what"),
      el("p", { class: "tight" }, card.said[1]),
      table(
        edge?.by ? ["Vector", "Product", "", "This line"] : ["Vector", "Product", "", "Query by", "Key by"],
        card.vectors.slice(0, 10).map(([number, product, dest, src], i) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, number),
            el("td", { class: "number" }, weight(product)),
            el("td", {}, meter(Math.abs(product) / largest, "vector")),
            edge?.by
              ? el("td", { class: "number" }, weight(edge.by[i]))
              : [el("td", { class: "number" }, by(dest)), el("td", { class: "number" }, by(src))],
          ),
        ),
      ),
      card.vectors.length > 10 && el("p", { class: "note" }, `and ${card.vectors.length - 10} smaller ones`),
    ];
  }

  // What writers are listed from: the card, which knows shares and what they attended to, else the tables' weights.
  function writersOf(prompt, firing, card) {
    if (card) return card.writers;
    return firing.edges.map((edge) => ({
      name: edge.writer.name,
      side: edge.side,
      token: firing[edge.side],
      weight: edge.weight,
      attended: prompt.firings
        .filter((each) => each.name === edge.writer.name && each.dest === firing[edge.side])
        .map((each) => [each.src, each.pattern]),
    }));
  }

  function writerLine(prompt, firing, writer, edge, see) {
    const id = `${writer.name}:${see}/${writer.side}`;
    const attended = (writer.attended || []).slice(0, 2);
    const facts = [
      writer.share !== undefined && writer.share !== null && `${share(writer.share)} of ${writer.share > 1 || writer.share < 0 ? DATA.written : "its side"}`,
      writer.here !== undefined && `here ${share(writer.here)}, at rivals ${share(writer.rivals)}`,
      writer.drop !== undefined && `drop ${share(writer.drop)}`,
      writer.q_value !== undefined && `q ${chanceOf(writer.q_value)}`,
      writer.stability !== undefined && `stability ${percent(writer.stability, 1)}`,
    ].filter(Boolean);
    return el(
      "li",
      {},
      button(
        [
          el("span", { class: `key ${writer.side}`, "aria-hidden": "true" }),
          el(
            "span",
            { class: "grow" },
            el("strong", {}, writer.name),
            writer.token !== firing[writer.side] && [" at ", word(prompt, writer.token)],
            attended.length > 0 && [" ← ", attended.map(([token], i) => [i ? ", " : "", word(prompt, token)])],
            facts.length > 0 && el("span", { class: "soft facts-line" }, facts.join(" · ")),
          ),
          el("span", { class: "number" }, weight(writer.weight)),
        ],
        () => State.set({ see: id }),
        { class: "line", "data-key": id, "aria-pressed": String(writer === edge), "aria-label": `${id}, weight ${weight(writer.weight)}` },
      ),
    );
  }

  function writers(prompt, firing, card, edge, see) {
    const all = writersOf(prompt, firing, card);
    return SIDES.map((side) => {
      const mine = all.filter((writer) => writer.side === side);
      if (!mine.length) return null;
      const what = side === "dest" ? "what it looks for" : "what makes it look there";
      return [
        el("h4", {}, `${SIDE_NAMES[side][0].toUpperCase()}${SIDE_NAMES[side].slice(1)}: ${what}, written at `, word(prompt, firing[side])),
        el(
          "ul",
          { class: "lines" },
          mine.map((writer) => writerLine(prompt, firing, writer, edge, see)),
        ),
      ];
    });
  }

  // What chance, other settings and ablation leave of a line; what nobody asked says so and how to ask.
  function left(edge) {
    const folder = DATA.folder;
    const asks = {
      chance: ["Chance", "svdtrace trace … --nulls 199"],
      stability: ["Other settings", "svdtrace trace … --stability"],
      interventions: ["Taken away", `svdtrace intervene --from ${folder} --strongest 10 --control norm, then svdtrace report ${folder} --with intervene`],
    };
    const told = edge?.left || [];
    const missing = Object.entries(asks).filter(([name]) => DATA.not_asked[name]);
    if (!told.length && !missing.length) return null;
    return [
      el("h4", {}, "What is left of it"),
      el(
        "dl",
        { class: "facts" },
        told.map(([name, said]) => [el("dt", {}, name), el("dd", {}, said)]),
        missing.map(([, [name, command]]) => [el("dt", {}, name), el("dd", { class: "soft" }, "not asked: ", el("code", {}, command))]),
      ),
    ];
  }

  function ofEdge(prompt, firing, edge) {
    const attended = (edge.attended || []).slice(0, 3);
    return el(
      "p",
      { class: "of-line" },
      el("span", { class: `tag ${edge.side}` }, SIDE_NAMES[edge.side]),
      ` ${edge.name} wrote at `,
      word(prompt, edge.token),
      `: ${weight(edge.weight)}`,
      edge.share !== undefined && edge.share !== null && `, ${share(edge.share)} of ${DATA.written} to this side`,
      ".",
      attended.length > 0 && [" It had attended there to ", attended.map(([token, pattern], i) => [i ? ", " : "", word(prompt, token), pattern === null ? "" : ` ${share(pattern)}`]), "."],
      edge.here !== undefined && ` At the token attended to this is worth ${share(edge.here)}, at its rivals ${share(edge.rivals)}.`,
    );
  }

  function ofFiring(prompt, firing, picked) {
    const card = of(prompt, firing);
    const see = `${firing.name}@${firing.dest}:${firing.src}`;
    const edge = picked && writersOf(prompt, firing, card).find((each) => each.name === picked.writer && each.side === picked.side);
    const same = prompt.firings.filter((each) => each.name === firing.name && each.dest === firing.dest && each !== firing);
    return [
      el("h3", {}, edge ? `${edge.name} → ${firing.name}` : `${firing.name} at ${plain(prompt, firing.dest)}`),
      edge && ofEdge(prompt, firing, edge),
      el("p", {}, card ? card.said[0] : `Head ${firing.name} at ${plain(prompt, firing.dest)} gives ${share(firing.pattern)} of its attention to ${plain(prompt, firing.src)}.`),
      effectOf(prompt, firing) && el("p", {}, effectOf(prompt, firing)),
      same.length > 0 &&
        el("p", { class: "chips" }, same.map((each) => button(["also to ", word(prompt, each.src)], () => State.set({ see: `${each.name}@${each.dest}:${each.src}` }), { "data-key": `also ${each.src}` }))),
      looks(prompt, firing, card),
      vectors(firing, card, edge),
      writers(prompt, firing, card, edge, see),
      left(edge),
      card?.notes.map((note) => el("p", { class: "note" }, note)),
      !card && el("p", { class: "note" }, "Scores over the tokens and parts by vector are kept of the first prompts alone; trace this one by itself for them."),
    ];
  }

  // A writer without a firing of its own: who reads it.
  function ofSpot(prompt, name, token) {
    const readers = prompt.firings.flatMap((firing) =>
      firing.edges.filter((edge) => edge.writer.name === name && writtenAt(firing, edge) === token).map((edge) => ({ firing, edge })),
    );
    readers.sort((a, b) => b.edge.weight - a.edge.weight);
    const head = /^\d/.test(name);
    return [
      el("h3", {}, `${name} at ${plain(prompt, token)}`),
      el("p", {}, head ? "It writes here; no token has so much of its attention that it counts as a firing, or it stands in the first layer, which is not traced." : "It writes here; it attends to nothing."),
      el("h4", {}, "Read by"),
      el(
        "ul",
        { class: "lines" },
        readers.slice(0, 12).map(({ firing, edge }) => {
          const id = `${name}:${firing.name}@${firing.dest}:${firing.src}/${edge.side}`;
          return el(
            "li",
            {},
            button(
              [el("span", { class: `key ${edge.side}`, "aria-hidden": "true" }), el("span", { class: "grow" }, el("strong", {}, firing.name), " at ", word(prompt, firing.dest)), el("span", { class: "number" }, weight(edge.weight))],
              () => State.set({ see: id }),
              { class: "line", "data-key": id },
            ),
          );
        }),
      ),
    ];
  }

  // Until something is picked: the strongest way down from the last token.
  function strongest(prompt) {
    const every = flows(prompt);
    const steps = [];
    let at = startsOf(prompt).sort((a, b) => b.value - a.value)[0]?.firing;
    while (at && steps.length < 12) {
      const best = every.find(({ firing }) => firing === at);
      steps.push({ firing: at, edge: best?.edge });
      if (!best) break;
      const token = writtenAt(at, best.edge);
      at = prompt.firings.filter((each) => each.name === best.edge.writer.name && each.dest === token).sort((a, b) => b.pattern - a.pattern)[0];
    }
    return [
      el("h3", {}, "The strongest way"),
      el("p", { class: "soft" }, "Pick a head or a line for its card."),
      el(
        "ol",
        { class: "lines way" },
        steps.map(({ firing, edge }) =>
          el(
            "li",
            {},
            button(
              [
                el("span", { class: "grow" }, el("strong", {}, firing.name), " at ", word(prompt, firing.dest), " looks at ", word(prompt, firing.src)),
                el("span", { class: "number" }, `${share(firing.pattern)} of its attention`),
              ],
              () => State.set({ see: `${firing.name}@${firing.dest}:${firing.src}` }),
              { class: "line", "data-key": `way ${firing.name}` },
            ),
            effectOf(prompt, firing) && el("p", { class: "soft tight" }, effectOf(prompt, firing)),
            edge && el("p", { class: "soft tight" }, `most on its ${SIDE_NAMES[edge.side]} by ${edge.writer.name}, at `, word(prompt, writtenAt(firing, edge))),
          ),
        ),
      ),
    ];
  }

  // What can be done with what is picked.
  function doing(prompt, seen) {
    if (!seen) return null;
    const firing = seen.firing;
    const pinned = Sentence.isPinned(firing ? spot(firing.name, firing.dest) : spot(...seen.spot));
    const called = (what) => () => `${what} of ${State.get("see")}`;
    const card = firing && of(prompt, firing);
    return el(
      "p",
      { class: "save" },
      button(pinned ? "Unpin" : seen.writer ? "Pin both ends" : "Pin", () => Sentence.pinSeen(), { "data-key": "pin" }),
      card && [Saving.table(() => tokenRows(prompt, firing, card), called("tokens")), " tokens "],
      firing && [Saving.table(() => writerRows(prompt, firing, card), called("writers")), " writers"],
    );
  }

  const tokenRows = (prompt, firing, card) => [
    ["position", "token", "role", "attention", "score", ...(card.path ? ["M"] : [])],
    ...card.pattern.map((value, token) => [token, prompt.strings[token], roleOf(prompt, token), value, card.scores[token], ...(card.path ? [card.path[token]] : [])]),
  ];

  const writerRows = (prompt, firing, card) => [
    ["writer", "side", "position", "token", "weight", "share", "here", "rivals", "attended to"],
    ...writersOf(prompt, firing, card).map((each) => [each.name, each.side, each.token, prompt.strings[each.token], each.weight, each.share, each.here, each.rivals, (each.attended || []).map(([token]) => token).join(" ")]),
  ];

  function draw(prompt, seen) {
    const parts = seen?.firing ? ofFiring(prompt, seen.firing, seen.writer && seen) : seen?.spot ? ofSpot(prompt, ...seen.spot) : strongest(prompt);
    put(byId("card"), doing(prompt, seen), parts);
  }

  return { unpack, draw, of, weight, share };
})();

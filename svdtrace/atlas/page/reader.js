// What is said of the chosen reader: its own numbers, its writers, its singular vectors, its positions.
const Reader = (() => {
  const FIRST = 12;
  const all = { writers: false, vectors: false };
  const chanceOf = (mean, sd) => `${mean.toFixed(4)} ± ${sd.toFixed(4)}`;
  const rounded = (value) => String(Math.round(value) || 0).replace("-", "−");
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

  // The first rows of a table, or all of them; the button that changes this.
  function cut(what, rows) {
    const more = byId(`more-${what}`);
    more.hidden = rows.length <= FIRST;
    more.textContent = all[what] ? `First ${FIRST} alone` : `All ${count(rows.length)} ${what}`;
    return all[what] ? rows : rows.slice(0, FIRST);
  }
  const number = (text) => el("td", { class: "number" }, text);
  const heading = (names) => el("tr", {}, names.map(([name, title, left]) => el("th", { scope: "col", title, class: left ? "" : "number" }, name)));
  const choose = (head) => button(nameOf(head), () => View.set({ reader: head }), { title: `Choose head ${nameOf(head)} as the reader` });

  function facts() {
    const at = View.get("reader");
    const of = (name) => DATA.of[name][at];
    const rows = [
      ["QK positivity", of("qk_positivity"), "1: attends to what is alike, −1: to its opposite"],
      ["OV positivity", of("ov_positivity"), "1: copies what it reads, −1: writes the opposite"],
      ["OV spreads over", of("ov_participation"), "as many directions, evenly"],
      ["Largest σ", of("sigma"), `without bias rows ${short(of("sigma_no_bias"))}`],
      ["Previous token", of("position_previous"), "mean pattern there from positions alone"],
    ];
    put(
      byId("facts"),
      el("h3", {}, `Head ${nameOf(at)}`),
      el("dl", { class: "facts" }, rows.filter(([, value]) => value !== null).map(([name, value, more]) => [el("dt", {}, name), el("dd", {}, `${short(value).replace("-", "−")} `, el("span", { class: "note" }, more))])),
    );
  }

  function bar(row, most) {
    const at = (value) => `${(100 * Math.max(0, value)) / most}%`;
    return el(
      "span",
      { class: "span", "aria-hidden": "true" },
      el("span", { class: "chance", style: { left: at(row.mean - 2 * row.sd), width: at(4 * row.sd) } }),
      el("span", { class: "at", style: { width: at(row.score) } }),
    );
  }

  function writers() {
    const side = View.get("side");
    const rows = writersOf(View.get("reader"), side);
    const shown = cut("writers", rows);
    const most = Math.max(...rows.map((row) => row.score), 1e-9);
    byId("writers-title").textContent = `Writers into the ${SIDES[side]} of ${nameOf(View.get("reader"))}`;
    put(
      byId("writers-head"),
      heading([
        ["Rank", "by score, 1 the largest"],
        ["Writer", "", true],
        ["Score", "composition score"],
        ["", "the bar: score; grey: chance, two standard deviations to each side", true],
        ["Chance", "mean and standard deviation with the writer turned at random"],
        ["sd above", "how far the score lies from chance, in standard deviations of it"],
        ["Beyond medians", "score less the writer's and the reader's median"],
        ["Rank", "by what is beyond medians"],
      ]),
    );
    put(
      byId("writers-body"),
      shown.map((row) =>
        el(
          "tr",
          {},
          number(row.rank),
          el("th", { scope: "row" }, choose(row.writer)),
          number(row.score.toFixed(4)),
          el("td", {}, bar(row, most)),
          number(chanceOf(row.mean, row.sd)),
          number(row.excess === null ? "–" : rounded(row.excess)),
          number(signed(row.beyond)),
          number(row.beyondRank),
        ),
      ),
      rows.length ? null : el("tr", {}, el("td", { colspan: 8 }, "No head stands before the first layer.")),
    );
  }

  // A writer with its share in units of chance, and how far that lies above, in standard deviations of chance.
  function writer(head, share) {
    const times = share / DATA.chance;
    const above = DATA.spread[head] ? ` (${rounded((times - 1) / DATA.spread[head])} sd)` : "";
    return el("li", { class: "whole" }, nameOf(head), " ", el("span", { class: "soft" }, `${short(times)}×${above}`));
  }

  // The tokens at the two ends of a vector of some kind; nothing where they are not known.
  function ends(kind, reader, k) {
    const found = DATA.tokens && DATA.tokens[kind] && DATA.tokens[kind][reader][k];
    if (!found) return "";
    return found.map((tokens, end) => el("div", { class: "tokens-end" }, el("span", { class: "soft" }, end ? "− " : "+ "), tokens.map((token) => [el("code", {}, visible(token)), " "])));
  }

  function values(reader) {
    const rows = DATA.tokens ? DATA.tokens.read[reader] : [];
    byId("vectors-title").textContent = `Singular vectors of the value and output of ${nameOf(reader)}`;
    byId("vectors-said").textContent = rows.length
      ? "Tokens that a value reads farthest along each vector and against it, and those whose logits the output then raises."
      : "This model came without token embeddings; choose the query or the key for single vectors.";
    put(byId("vectors-head"), rows.length ? heading([["k", "singular vector"], ["Reads", "", true], ["Writes", "", true]]) : null);
    put(byId("vectors-body"), cut("vectors", rows).map((_, k) => el("tr", {}, el("th", { scope: "row", class: "number" }, k), el("td", {}, ends("read", reader, k)), el("td", {}, ends("written", reader, k)))));
  }

  function vectors() {
    const side = View.get("side");
    const reader = View.get("reader");
    if (side === "v") return values(reader);
    byId("vectors-title").textContent = `Singular vectors of the ${SIDES[side]} of ${nameOf(reader)}`;
    byId("vectors-said").textContent =
      "Largest singular value first. Dotted lines join vectors whose σ lie within 1 % of each other: no measurement tells them apart, only their span means something. Writers with the largest shares, in units of chance, and how many of chance's standard deviations above it.";
    const of = DATA.vectors[reader];
    const columns = [
      ["k", "singular vector"],
      ["σ", "singular value, bias rows in the matrix"],
      ["Bias", "part of the vector on the bias row"],
      ["Written", "mean share of earlier heads, in units of chance"],
      ["Positions", "share in the score's variance from positions alone"],
      ["Writers", "largest shares, in units of chance", true],
    ];
    if (DATA.tokens) columns.push(["Tokens", "farthest along the vector and against it", true]);
    const part = (value) => (value === null ? "–" : percent(value, 1));
    const row = (sigma, k) => {
      const found = DATA.strongest[side][reader][k];
      const many = found.length / 2;
      const mean = of[`written_${side}`][k];
      return el(
        "tr",
        { class: of.block[k + 1] !== undefined && of.block[k + 1] === of.block[k] ? "joined" : "" },
        el("th", { scope: "row", class: "number" }, k),
        number(short(sigma)),
        number(part(of[`bias_${side}`][k])),
        number(mean === null ? "–" : `${short(mean)}×`),
        number(part(of.position_share[k])),
        el("td", {}, el("ul", { class: "inline" }, Array.from({ length: many }, (_, i) => writer(found[i], found[many + i])))),
        DATA.tokens ? el("td", {}, ends(side, reader, k)) : null,
      );
    };
    put(byId("vectors-head"), heading(columns));
    put(byId("vectors-body"), cut("vectors", of.sigma).map(row));
  }

  function positions() {
    if (!DATA.positions) return;
    const reader = View.get("reader");
    const scores = DATA.positions[reader];
    const size = Math.round((Math.sqrt(8 * scores.length + 1) - 1) / 2);
    const rows = Array.from({ length: size }, (_, i) => scores.slice((i * (i + 1)) / 2, ((i + 1) * (i + 2)) / 2));
    const centred = rows.map((row) => row.map((value) => value - row.reduce((a, b) => a + b, 0) / row.length));
    const most = Math.max(...centred.flat().map(Math.abs), 1e-9);
    byId("positions-title").textContent = `What ${nameOf(reader)} makes of positions alone`;
    put(
      byId("position-map"),
      svg(
        "svg",
        { viewBox: `0 0 ${size * 10} ${size * 10}`, class: "position-map", role: "img", "aria-label": `Scores of head ${nameOf(reader)} from positions 1 to ${size}, up to ${short(most)} from their row's mean` },
        centred.flatMap((row, i) =>
          row.map((value, j) =>
            svg("rect", { x: j * 10, y: i * 10, width: 9.4, height: 9.4, fill: `color-mix(in srgb, var(${value < 0 ? "--src" : "--dest"}) ${((90 * Math.abs(value)) / most).toFixed(0)}%, var(--sunken))` }, svg("title", {}, `query ${i + 1}, key ${j + 1}: ${short(value)}`)),
          ),
        ),
      ),
      el("p", { class: "note" }, `Blue above, orange below the row's mean; the darkest is ${short(most)}.`),
    );
  }

  function draw() {
    facts();
    writers();
    vectors();
    positions();
  }

  return {
    start() {
      for (const [what, redraw] of [["writers", writers], ["vectors", vectors]])
        byId(`more-${what}`).addEventListener("click", () => {
          all[what] = !all[what];
          redraw();
        });
      View.on(draw);
      draw();
    },
  };
})();

Matrix.start();
Reader.start();
document.documentElement.classList.add("ready");

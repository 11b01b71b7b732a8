// The circuit of one sentence, drawn with its own tokens; what is picked shows its card beside it.
const Sentence = (() => {
  let placed = null;
  let drawnFor = null;

  const current = () => PROMPTS.find((prompt) => String(prompt.prompt) === State.get("prompt")) || PROMPTS[0];

  // What the address says is picked: a firing `2.6@14:4`, a line into it `1.5:2.6@14:4/src`, or a writer `0.3@5`.
  function seenIn(prompt) {
    const text = State.get("see");
    const found = /^(?:([^:@]+):)?(\d+\.\d+)@(\d+):(\d+)(?:\/(dest|src))?$/.exec(text);
    if (found) {
      const [, writer, name, dest, src, side] = found;
      const firing = prompt.firings.find((each) => each.name === name && each.dest === Number(dest) && each.src === Number(src));
      return firing ? { firing, writer, side } : null;
    }
    const spotted = /^([^:@]+)@(\d+)$/.exec(text);
    return spotted && Number(spotted[2]) < prompt.strings.length ? { spot: [spotted[1], Number(spotted[2])] } : null;
  }

  const idOf = (firing, edge) => `${edge.writer.name}:${firing.name}@${firing.dest}:${firing.src}/${edge.side}`;

  function pickNode(node) {
    const best = [...node.firings].sort((a, b) => b.pattern - a.pattern)[0];
    State.set({ see: best ? `${best.name}@${best.dest}:${best.src}` : node.id });
  }

  // From the top of what wrote to the foot of what read, bowed aside where both stand over one token.
  function way(from, to, side) {
    const [x1, y1] = [from.x, from.y - CELL.height / 2];
    const [x2, y2] = [to.x + (side === "dest" ? -0.24 : 0.24) * to.width, to.y + CELL.height / 2];
    const rise = Math.max(14, 0.42 * (y1 - y2));
    const near = Math.abs(x1 - x2) < CELL.wide && y1 - y2 > CELL.row;
    const bow = near ? (side === "dest" ? -1 : 1) * (16 + 0.1 * (y1 - y2)) : 0;
    const middle = { x: (x1 + x2) / 2 + 0.75 * bow, y: (y1 + y2) / 2 };
    return { path: `M${x1.toFixed(1)} ${y1.toFixed(1)} C${(x1 + bow).toFixed(1)} ${(y1 - rise).toFixed(1)} ${(x2 + bow).toFixed(1)} ${(y2 + rise).toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`, middle };
  }

  function line({ firing, edge, value }, most, seen) {
    const [from, to] = [placed.nodes.get(spot(edge.writer.name, writtenAt(firing, edge))), placed.nodes.get(spot(firing.name, firing.dest))];
    const { path, middle } = way(from, to, edge.side);
    const id = idOf(firing, edge);
    const picked = seen?.firing === firing && (!seen.writer || (seen.writer === edge.writer.name && seen.side === edge.side));
    const touches = picked || (seen?.spot && from.id === spot(...seen.spot)) || (seen?.firing && from.id === spot(seen.firing.name, seen.firing.dest));
    const width = 1 + 5 * Math.sqrt(value / most);
    return {
      path: svg(
        "g",
        { class: `way ${edge.side} ${seen ? (picked ? "picked" : touches ? "near" : "faded") : ""}`, onclick: () => State.set({ see: id }) },
        svg("title", {}, `${id}\nweight ${Cards.weight(edge.weight)}`),
        svg("path", { d: path, class: "hit" }),
        svg("path", { d: path, class: "seen", "stroke-width": width.toFixed(2) }),
      ),
      label: picked && { ...middle, text: Cards.weight(edge.weight), side: edge.side },
    };
  }

  function node(each, seen) {
    const mine = seen?.firing ? spot(seen.firing.name, seen.firing.dest) : seen?.spot ? spot(...seen.spot) : null;
    const { x, y, width } = each;
    const [left, top, h] = [x - width / 2, y - CELL.height / 2, CELL.height];
    const silent = each.kind === "head" && !each.firings.length;
    const shape =
      each.kind === "head"
        ? svg("rect", { x: left, y: top, width, height: h, rx: 6 })
        : svg("path", { d: `M${left + 5} ${top} H${left + width - 5} L${left + width} ${top + 5} V${top + h - 5} L${left + width - 5} ${top + h} H${left + 5} L${left} ${top + h - 5} V${top + 5} z` });
    const faded = seen && each.id !== mine && !placed.near.has(each.id);
    const label = each.kind === "mlp" ? `mlp ${each.layer}` : each.kind === "attn_bias" ? `bias ${each.layer}` : each.name;
    return svg(
      "g",
      { class: `spot ${each.kind === "head" ? "head" : "other"} ${silent ? "silent" : ""} ${each.id === mine ? "picked" : ""} ${faded ? "faded" : ""}`, "data-spot": each.id, onclick: () => pickNode(each) },
      svg("title", {}, `${each.name} at “${visible(current().strings[each.token])}”${each.firings.map((firing) => `\nlooks at “${visible(current().strings[firing.src])}” ${Cards.share(firing.pattern)}`).join("")}`),
      shape,
      svg("text", { x, y: y + 4 }, label),
    );
  }

  // Tokens under their columns; of a picked head each one shaded by its attention.
  function tokens(prompt, layout, seen) {
    const card = seen?.firing && Cards.of(prompt, seen.firing);
    const attention = (token) => (card ? (card.pattern[token] ?? 0) : seen?.firing?.src === token ? seen.firing.pattern : 0);
    return layout.columns.map(({ token, text, x, width, full }) => {
      const named = roleOf(prompt, token);
      const written = visible(text) || "∅";
      const ends = seen?.firing && (token === seen.firing.dest ? "dest" : token === seen.firing.src ? "src" : "");
      return [
        svg("rect", { class: `column ${full ? "full" : ""}`, x: x - width / 2 + 1, y: 4, width: width - 2, height: layout.foot - 8 }),
        attention(token) > 0.005 && svg("rect", { class: "attention", x: x - width / 2 + 1, y: layout.foot - 6, width: width - 2, height: 6, "fill-opacity": Math.sqrt(attention(token)).toFixed(2) }),
        svg(
          "g",
          { transform: `translate(${x + 4} ${layout.foot + 10}) rotate(-52)`, class: `token-name ${named === "other" ? "" : "named"} ${ends || ""}` },
          svg("title", {}, `${token}: ${text}${named === "other" ? "" : `, ${named}`}`),
          svg("text", {}, named === "other" ? null : svg("tspan", { class: "role" }, `${shortened(named, 6)} `), shortened(written.trim() || written, 11)),
        ),
      ];
    });
  }

  const shortened = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

  // The output on top of the last traced token: what the model would write there, and the heads' direct effects.
  function output(prompt, layout) {
    const last = prompt.roles.findLast(([name]) => name === "end")?.[1] ?? prompt.strings.length - 1;
    const width = 190;
    const x = Math.min(layout.width - width / 2 - 4, Math.max(width / 2 + 4, layout.columns[last].x));
    const effects = prompt.effects
      .map(([name, value]) => ({ name, value, node: placed.nodes.get(spot(name, last)) }))
      .filter(({ node: each }) => each);
    const most = Math.max(...effects.map(({ value }) => Math.abs(value)), 1e-9);
    const [first, ...others] = prompt.likely;
    return [
      effects.map(({ name, value, node: each }) => {
        const path = `M${each.x} ${each.y - CELL.height / 2} C${each.x} ${each.y - 44} ${x} ${60 + 24} ${x} 58`;
        return svg(
          "g",
          { class: `way effect ${value < 0 ? "against" : ""}`, onclick: () => pickNode(each) },
          svg("title", {}, `${name} → output, direct effect ${short(value)}`),
          svg("path", { d: path, class: "hit" }),
          svg("path", { d: path, class: "seen", "stroke-width": (1 + 4.5 * Math.sqrt(Math.abs(value) / most)).toFixed(2) }),
        );
      }),
      svg(
        "g",
        { class: "output" },
        svg("title", {}, prompt.likely.map(([text, chance]) => `“${visible(text)}” ${Cards.share(chance)}`).join("\n") || "output"),
        svg("rect", { x: x - width / 2, y: 6, width, height: 50, rx: 8 }),
        svg("text", { x, y: 26, class: "first" }, first ? `${shortened(visible(first[0]), 14)} ${Cards.share(first[1])}` : "output"),
        svg("text", { x, y: 44 }, others.length ? shortened(others.slice(0, 3).map(([text]) => visible(text)).join("  "), 30) : "next token"),
      ),
    ];
  }

  function outputWords(prompt) {
    if (prompt.effects.length) return `Lines into the output are the heads' direct effects${prompt.target === null ? "" : ` on “${visible(prompt.target)}”`}.`;
    return "No lines lead into the output: trace with --roots logit or --roots probability for the heads' direct effects on it.";
  }

  function shownLines(prompt, seen) {
    const every = flows(prompt);
    const shown = every.slice(0, State.number("lines", 5, 150));
    const known = new Set(shown.map(({ firing, edge }) => idOf(firing, edge)));
    // All lines into what is picked.
    const least = shown.at(-1)?.value || 1e-3;
    for (const edge of seen?.firing?.edges || []) {
      if (!known.has(idOf(seen.firing, edge))) shown.push({ firing: seen.firing, edge, value: least });
    }
    return { shown, all: every.length };
  }

  function near(seen, shown) {
    const found = new Set();
    for (const { firing, edge } of shown) {
      const [from, to] = [spot(edge.writer.name, writtenAt(firing, edge)), spot(firing.name, firing.dest)];
      const mine = seen?.firing ? spot(seen.firing.name, seen.firing.dest) : seen?.spot ? spot(...seen.spot) : null;
      const line = !seen?.writer || (seen.writer === edge.writer.name && seen.side === edge.side);
      if ((seen?.firing === firing && line) || (from === mine && !seen?.writer)) found.add(from).add(to);
    }
    return found;
  }

  function draw() {
    const prompt = current();
    const seen = seenIn(prompt);
    const { shown, all } = shownLines(prompt, seen);
    const nodes = sentenceNodes(prompt, shown, seen?.firing && { firing: seen.firing });
    const layout = sentenceLayout(prompt, nodes);
    placed = { nodes, near: near(seen, shown), ...layout };
    const most = Math.max(...shown.map(({ value }) => value), 1e-9);
    const lines = [...shown].reverse().map((each) => line(each, most, seen));
    const labels = lines.map(({ label }) => label).filter(Boolean);
    const stage = byId("sentence-stage");
    size(stage, layout);
    put(
      stage,
      tokens(prompt, layout, seen),
      layout.layers.map(({ label, y }) => svg("text", { class: "layer", x: 4, y: y + 4 }, label)),
      lines.map(({ path }) => path),
      output(prompt, layout),
      [...nodes.values()].map((each) => node(each, seen)),
      labels.map(({ x, y, text, side }) => svg("text", { class: `on-line ${side}`, x, y }, text)),
    );
    byId("sentence-shown").textContent = all ? `${plural(shown.length, "line")} of ${count(all)} that lead to the last token` : "No line leads to the last token.";
    byId("sentence-output").textContent = outputWords(prompt);
    byId("lines-value").textContent = shown.length;
    const select = byId("sentence-select");
    if (select) select.value = String(prompt.prompt);
    Cards.draw(prompt, seen);
    if (drawnFor !== prompt) byId("sentence-frame").scrollLeft = stage.clientWidth;
    drawnFor = prompt;
  }

  // As large as fits, but never so small that names cannot be read: then the frame scrolls.
  function size(stage, { width, height }) {
    const frame = byId("sentence-frame");
    const room = Math.min(800, Math.max(420, 0.66 * innerHeight));
    const scale = Math.min(1.3, Math.max(0.74, Math.min((frame.clientWidth - 4) / width, (room - 4) / height)));
    stage.setAttribute("viewBox", `0 0 ${width.toFixed(1)} ${height.toFixed(1)}`);
    stage.setAttribute("width", (width * scale).toFixed(1));
    stage.setAttribute("height", (height * scale).toFixed(1));
  }

  const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  function step(direction) {
    const all = [...placed.nodes.values()];
    const seen = seenIn(current());
    const id = seen?.firing ? spot(seen.firing.name, seen.firing.dest) : seen?.spot ? spot(...seen.spot) : null;
    const from = placed.nodes.get(id);
    if (!all.length) return;
    if (!from) return pickNode(all.reduce((a, b) => (b.y < a.y || (b.y === a.y && b.x > a.x) ? b : a)));
    const [dx, dy] = DIRECTIONS[direction];
    const cost = (each) => {
      const along = (each.x - from.x) * dx + (each.y - from.y) * dy;
      const aside = Math.abs((each.x - from.x) * dy) + Math.abs((each.y - from.y) * dx);
      return along > 1 ? along + 2.5 * aside : Infinity;
    };
    const next = all.reduce((a, b) => (cost(b) < cost(a) ? b : a));
    if (cost(next) < Infinity) {
      pickNode(next);
      byId("sentence-stage").querySelector(".spot.picked")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) step(event.key);
    else if (event.key === "Escape") State.set({ see: "" });
    else if (event.key === "Enter") byId("card").focus();
    else return;
    event.preventDefault();
  }

  return {
    start() {
      const select = byId("sentence-select");
      if (select) {
        put(select, PROMPTS.map((prompt) => el("option", { value: prompt.prompt }, promptName(prompt))));
        select.addEventListener("change", (event) => State.set({ prompt: event.target.value, token: "", see: "" }));
      }
      bind("lines", "lines");
      byId("sentence-frame").addEventListener("keydown", onKey);
      State.on(["prompt", "see", "lines"], draw);
      draw();
      onWidth(byId("sentence-frame"), draw);
    },
  };
})();

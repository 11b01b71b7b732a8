// How the circuit of one sentence looks: its nodes, lines, tokens and output as SVG. Everything drawn of a node has its
// id in `data-spot`, of a line in `data-line`.
const SentenceDrawing = (() => {
  // Beyond so many lines the weaker ones are drawn thin.
  const BOLD = 120;

  function node(each, prompt, { mine, faded, pinned }) {
    const { x, y, width } = each;
    const [left, top, h] = [x - width / 2, y - CELL.height / 2, CELL.height];
    const silent = each.kind === "head" && !each.firings.length;
    const shape =
      each.kind === "head"
        ? svg("rect", { x: left, y: top, width, height: h, rx: 6 })
        : svg("path", { d: `M${left + 5} ${top} H${left + width - 5} L${left + width} ${top + 5} V${top + h - 5} L${left + width - 5} ${top + h} H${left + 5} L${left} ${top + h - 5} V${top + 5} z` });
    const kinds = [each.kind === "head" ? "head" : "other", silent && "silent", mine && "picked", faded && "faded", pinned && "pinned"];
    const label = each.kind === "mlp" ? `mlp ${each.layer}` : each.kind === "attn_bias" ? `bias ${each.layer}` : each.name;
    return svg(
      "g",
      { class: `spot ${kinds.filter(Boolean).join(" ")}`, "data-spot": each.id },
      shape,
      svg("text", { x, y: y + 4 }, label),
      pinned && svg("circle", { class: "pin", cx: left + width - 2, cy: top + 2, r: 4 }),
    );
  }

  function line({ id, from, to, side, value, faded, near, picked, rank }, most, way) {
    const kinds = [side, picked && "picked", near && "near", faded && "faded", rank >= BOLD && "thin"];
    const width = rank >= BOLD ? 0.8 : 1 + 5 * Math.sqrt(value / most);
    return svg(
      "g",
      { class: `way ${kinds.filter(Boolean).join(" ")}`, "data-line": id, "data-from": from.id, "data-to": to.id },
      rank < BOLD && svg("path", { d: way.path, class: "hit" }),
      svg("path", { d: way.path, class: "seen", "stroke-width": width.toFixed(2) }),
    );
  }

  // Where a line leaves a node and where it comes to another, bowed aside where both stand over one token.
  function ends(from, to, side) {
    const start = { x: from.x, y: from.y - CELL.height / 2 };
    const end = { x: to.x + (side === "dest" ? -0.24 : 0.24) * to.width, y: to.y + CELL.height / 2 };
    const near = Math.abs(start.x - end.x) < CELL.wide && start.y - end.y > CELL.row;
    return [start, end, near ? (side === "dest" ? -1 : 1) * (16 + 0.1 * (start.y - end.y)) : 0];
  }

  // Tokens under their columns; of a picked head each one shaded by its attention.
  function tokens(prompt, layout, firing) {
    const card = firing && Cards.of(prompt, firing);
    const attention = (token) => (card ? (card.pattern[token] ?? 0) : firing?.src === token ? firing.pattern : 0);
    return layout.columns.map(({ token, x, width, full, words }) => {
      const end = firing && (token === firing.dest ? "dest" : token === firing.src ? "src" : "");
      return [
        svg("rect", { class: `column ${full ? "full" : ""}`, x: x - width / 2 + 1, y: 4, width: width - 2, height: layout.foot - 8 }),
        attention(token) > 0.005 && svg("rect", { class: "attention", x: x - width / 2 + 1, y: layout.foot - 6, width: width - 2, height: 6, "fill-opacity": Math.sqrt(attention(token)).toFixed(2) }),
        svg(
          "g",
          { transform: `translate(${(x + 4).toFixed(1)} ${(layout.foot + NAMED.drop).toFixed(1)}) rotate(-${NAMED.tilt})`, class: `token-name ${words.role ? "named" : ""} ${end || ""}` },
          svg("title", {}, `${token}: ${prompt.strings[token]}${words.role ? `, ${roleOf(prompt, token)}` : ""}`),
          svg("text", {}, words.role && svg("tspan", { class: "role" }, `${words.role} `), words.text),
        ),
      ];
    });
  }

  // The output on top of the last traced token: what the model would write there, and the heads' direct effects.
  function output(prompt, layout, nodes, way, mine) {
    const last = prompt.roles.findLast(([name]) => name === "end")?.[1] ?? prompt.strings.length - 1;
    const width = 190;
    const x = Math.min(layout.width - width / 2 - 4, Math.max(width / 2 + 4, layout.columns[last].x));
    const effects = prompt.effects
      .map(([name, value]) => ({ name, value, node: nodes.get(spot(name, last)) }))
      .filter(({ node: each }) => each);
    const most = Math.max(...effects.map(({ value }) => Math.abs(value)), 1e-9);
    const [first, ...others] = prompt.likely;
    return [
      effects.map(({ value, node: each }) => {
        const { path } = way({ x: each.x, y: each.y - CELL.height / 2 }, { x, y: 58 }, 0);
        return svg(
          "g",
          { class: `way effect ${value < 0 ? "against" : ""} ${mine && each.id !== mine ? "faded" : ""}`, "data-effect": value, "data-from": each.id },
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
        svg("text", { x, y: 44 }, others.length ? shortened(others.slice(0, 3).map(([text]) => visible(text)).join("  "), 26) : "next token"),
      ),
    ];
  }

  return { BOLD, node, line, ends, tokens, output };
})();

// Pinned nodes as a picture of their own: named, grouped, with the edges between them, all of it kept in the address.
const Subgraph = (() => {
  const BOX = { line: 18, letter: 7, pad: 10, gap: 44, rise: 70 };

  // In the address a name, the prompt that it is of, and groups: each its name and its nodes. Whatever else stands there
  // is no subgraph.
  function read(text, of) {
    try {
      const [name, its, groups] = JSON.parse(text);
      const plain = (values) => Array.isArray(values) && values.length > 1 && values.every((each) => typeof each === "string");
      if (typeof name === "string" && its === of && Array.isArray(groups) && groups.every(plain)) return { name, groups };
    } catch {
      // Nothing is pinned.
    }
    return { name: "", groups: [] };
  }

  // Units are groups and nodes without one; rows of them by layer, in the order of their places.
  function placed(groups, view) {
    const units = groups.flatMap(([name, ...ids]) => (name ? [{ name, ids }] : ids.map((id) => ({ name: "", ids: [id] }))));
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    for (const unit of units) {
      unit.words = unit.ids.map(view.words);
      unit.row = Math.round(2 * mean(unit.ids.map(view.level))) / 2;
      unit.order = mean(unit.ids.map(view.order));
      unit.width = BOX.letter * Math.max(...[unit.name, ...unit.words].map((text) => [...text].length)) + 2 * BOX.pad;
      unit.height = BOX.line * (unit.words.length + (unit.name ? 1 : 0)) + BOX.pad;
    }
    const rows = [...new Set(units.map(({ row }) => row))].sort((a, b) => b - a).map((row) => units.filter((unit) => unit.row === row).sort((a, b) => a.order - b.order));
    const wide = (row) => row.reduce((sum, unit) => sum + unit.width + BOX.gap, -BOX.gap);
    const width = Math.max(240, ...rows.map(wide)) + 2 * BOX.gap;
    let y = BOX.pad;
    for (const row of rows) {
      const high = Math.max(...row.map((unit) => unit.height));
      let x = (width - wide(row)) / 2;
      for (const unit of row) {
        Object.assign(unit, { x: x + unit.width / 2, y: y + high / 2 });
        x += unit.width + BOX.gap;
      }
      y += high + BOX.rise;
    }
    return { units, width, height: y - BOX.rise + BOX.pad };
  }

  // The edges between units, summed by their ends and side.
  function between(units, edges) {
    const unitOf = new Map(units.flatMap((unit) => unit.ids.map((id) => [id, unit])));
    const found = new Map();
    for (const { from, to, side, weight } of edges) {
      const [a, b] = [unitOf.get(from), unitOf.get(to)];
      if (!a || !b || a === b) continue;
      const key = [units.indexOf(a), units.indexOf(b), side].join(" ");
      const known = found.get(key) || { a, b, side, weight: 0 };
      known.weight += weight;
      found.set(key, known);
    }
    return [...found.values()];
  }

  function drawing(groups, edges, view) {
    const { units, width, height } = placed(groups, view);
    const lines = between(units, edges);
    const most = Math.max(...lines.map(({ weight }) => Math.abs(weight)), 1e-9);
    const taken = units.map(({ x, y, width: wide, height: high }) => ({ x, y, width: wide, half: high / 2 }));
    const drawn = lines.map(({ a, b, side, weight }) => {
      // Towards each other, the query side's left of the key side's.
      const aside = { dest: -9, src: 9, move: 0 }[side];
      const toward = (one, other) => one.x + aside + Math.sign(Math.round((other.x - one.x) / 20)) * 0.22 * one.width;
      const up = b.y + b.height / 2 < a.y - a.height / 2;
      const [start, end] = [{ x: toward(a, b), y: a.y - a.height / 2 }, { x: toward(b, a), y: b.y + (up ? 0.5 : -0.5) * b.height }];
      const way = up ? Ways.direct(start, end) : Ways.over(start, end);
      const text = side === "move" ? "" : view.weight(weight);
      const label = text && Ways.labelled(way.points, BOX.letter * text.length, taken);
      return {
        line: svg("g", { class: `way ${side}` }, svg("path", { class: "seen", d: way.path, "stroke-width": side === "move" ? 1.6 : (1.2 + 5 * Math.sqrt(Math.abs(weight) / most)).toFixed(2) })),
        label: label && svg("text", { class: `on-line ${side}`, x: label.x, y: label.y + 4 }, text),
      };
    });
    const boxes = units.map(({ name, ids, words, x, y, width: wide, height: high }) =>
      svg(
        "g",
        { class: `unit ${name ? "group" : ""}`, onclick: () => view.show(ids[0]) },
        svg("rect", { x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 8 }),
        [...(name ? [name] : []), ...words].map((text, i) =>
          svg("text", { x, y: y - high / 2 + BOX.pad / 2 + 13 + BOX.line * i, class: name && i === 0 ? "first" : null }, text),
        ),
      ),
    );
    const arched = lines.some(({ a, b }) => b.y + b.height / 2 >= a.y - a.height / 2);
    const top = arched ? -30 : 0;
    return svg(
      "svg",
      { class: "drawing", role: "img", "aria-label": "Subgraph of the pinned nodes", viewBox: `0 ${top} ${width} ${height - top}`, width, height: height - top },
      drawn.map(({ line }) => line),
      boxes,
      drawn.map(({ label }) => label || null),
    );
  }

  // How much of what is written into the pinned nodes comes from among them.
  function words(pinned, edges, view) {
    const into = edges.filter(({ to, side, weight }) => pinned.has(to) && side !== "move" && weight > 0);
    const sum = (list) => list.reduce((total, { weight }) => total + weight, 0);
    const inside = into.filter(({ from }) => pinned.has(from));
    if (!into.length) return "Nothing that this trace shows is written into the pinned nodes.";
    return `${plural(inside.length, "edge")} between pinned nodes, ${percent(sum(inside), sum(into))} of the weight of all ${count(into.length)} into them that ${view.where} has; a group's lines are the sums of its members'.`;
  }

  // `key`: of the address; `of()`: the prompt that ids belong to, or null; `view`: what ids mean there.
  function start({ key, place, of, view }) {
    const now = () => read(State.get(key), of());
    const write = ({ name, groups }) => State.set({ [key]: groups.length ? JSON.stringify([name, of(), groups.filter((group) => group.length > 1)]) : "" });
    const pinned = () => new Set(now().groups.flatMap(([, ...ids]) => ids).filter(view.known));

    // A node leaves its group for another, for none of the groups (""), or altogether (null).
    function move(ids, to) {
      const { name, groups } = now();
      const left = groups.map(([group, ...nodes]) => [group, ...nodes.filter((id) => !ids.includes(id))]).filter((group) => group.length > 1);
      const home = to === null ? null : left.find(([group]) => group === to);
      if (home) home.push(...ids);
      else if (to !== null) left.push([to, ...ids]);
      write({ name, groups: left });
    }

    function row(id, group) {
      const input = el("input", { type: "text", value: group, list: `${key}-groups`, placeholder: "no group", size: 14, "data-key": `group ${id}`, "aria-label": `Group of ${view.words(id)}` });
      input.addEventListener("change", () => move([id], input.value.trim()));
      return el("li", {}, button(view.words(id), () => view.show(id), { "data-key": `show ${id}` }), input, button("Unpin", () => move([id], null), { "data-key": `unpin ${id}` }));
    }

    function draw() {
      const { name, groups } = now();
      const there = groups.map(([group, ...ids]) => [group, ...ids.filter(view.known)]).filter((group) => group.length > 1);
      place.hidden = there.length === 0;
      if (place.hidden) return put(place);
      const edges = view.edges();
      const called = el("input", { type: "text", value: name, placeholder: "name it", size: 24, "data-key": "name", "aria-label": "Name of the subgraph" });
      called.addEventListener("change", () => write({ name: called.value.trim(), groups: now().groups }));
      const picture = drawing(there, edges, view);
      const title = () => now().name || "subgraph";
      put(
        place,
        el("div", { class: "under" }, el("h3", {}, "Pinned"), called, Saving.buttons(() => Saving.ofSvg(picture, title()), title), button("Unpin all", () => write({ name: "", groups: [] }), { "data-key": "none" })),
        el("div", { class: "scroll" }, picture),
        el("p", { class: "note" }, words(pinned(), edges, view)),
        el("datalist", { id: `${key}-groups` }, there.filter(([group]) => group).map(([group]) => el("option", { value: group }))),
        el("ul", { class: "pins" }, there.flatMap(([group, ...ids]) => ids.map((id) => row(id, group)))),
      );
    }

    State.on([key, "prompt"], draw);
    draw();
    return { pinned, toggle: (...ids) => move(ids, ids.every((id) => pinned().has(id)) ? null : "") };
  }

  return { start };
})();

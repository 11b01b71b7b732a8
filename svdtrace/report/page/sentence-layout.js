// One sentence as a circuit: which firings and edges lead to its last token, and where they stand. A column for each
// token, a row for each layer, embeddings below.
const CELL = { width: 42, wide: 54, height: 22, gap: 6, course: 40, row: 62, empty: 16, named: 23, top: 86, left: 34 };
const NAMED = { tilt: 60, letter: 7.3, role: 7, drop: 10 };
const WIDEST = 3;

// What a node is called: `2.6@14`, a head (or another writer) where it writes.
const spot = (name, token) => `${name}@${token}`;

// The token at which an edge's writer wrote.
const writtenAt = (firing, edge) => edge.token ?? firing[edge.side];

// How much of what happens at the last token goes over each edge: a firing's share is split over its sides and their
// edges by weight, an edge's over the writer's own firings there by attention. Layers fall along every edge.
function flows(prompt) {
  const share = new Map();
  const add = (firing, value) => share.set(firing, (share.get(firing) || 0) + value);
  const byWriter = new Map();
  for (const firing of prompt.firings) {
    const key = spot(firing.name, firing.dest);
    byWriter.set(key, [...(byWriter.get(key) || []), firing]);
  }
  for (const firing of startsOf(prompt)) add(firing.firing, firing.value);
  const found = [];
  for (const firing of [...prompt.firings].sort((a, b) => b.layer - a.layer)) {
    const mine = share.get(firing) || 0;
    if (mine <= 0) continue;
    const sides = SIDES.map((side) => firing.edges.filter((edge) => edge.side === side && edge.weight > 0)).filter(
      (edges) => edges.length,
    );
    for (const edges of sides) {
      const whole = edges.reduce((sum, edge) => sum + edge.weight, 0);
      for (const edge of edges) {
        const value = (mine * edge.weight) / whole / sides.length;
        found.push({ firing, edge, value });
        const next = byWriter.get(spot(edge.writer.name, writtenAt(firing, edge))) || [];
        const attention = next.reduce((sum, each) => sum + each.pattern, 0);
        for (const each of next) add(each, (value * each.pattern) / attention);
      }
    }
  }
  return found.sort((a, b) => b.value - a.value);
}

// Where the walk down begins: at the heads whose effect on the output is known, else at roots, else at the last token.
function startsOf(prompt) {
  const last = Math.max(-1, ...prompt.firings.map((firing) => firing.dest));
  const at = prompt.firings.filter((firing) => firing.dest === last);
  if (prompt.effects.length) {
    const effect = new Map(prompt.effects.map(([name, value]) => [name, Math.max(0, value)]));
    const known = at.filter((firing) => effect.get(firing.name) > 0);
    const times = (firing) => known.filter((each) => each.name === firing.name).length;
    if (known.length) return known.map((firing) => ({ firing, value: effect.get(firing.name) / times(firing) }));
  }
  const roots = prompt.firings.filter((firing) => isRoot(firing.name, roleOf(prompt, firing.dest)));
  const from = roots.length ? roots : at;
  const top = Math.max(...from.map((firing) => firing.layer));
  return (roots.length ? roots : at.filter((firing) => firing.layer === top)).map((firing) => ({
    firing,
    value: firing.pattern,
  }));
}

// The nodes of some edges, of the heads that write the output, of a firing that is picked, and those that are pinned.
function sentenceNodes(prompt, shown, picked, pinned) {
  const nodes = new Map();
  const add = (writer, token) => {
    const id = spot(writer.name, token);
    if (!nodes.has(id)) {
      const firings = prompt.firings.filter((firing) => firing.name === writer.name && firing.dest === token);
      nodes.set(id, { ...writer, id, token, firings, row: writer.layer + { mlp: 0.5, attn_bias: 0.25 }[writer.kind] || writer.layer });
    }
  };
  for (const { firing, edge } of shown) {
    add(writerOf(firing.name), firing.dest);
    add(edge.writer, writtenAt(firing, edge));
  }
  const last = Math.max(-1, ...prompt.firings.map((firing) => firing.dest));
  for (const [name] of prompt.effects) add(writerOf(name), last);
  if (picked) {
    add(writerOf(picked.firing.name), picked.firing.dest);
    for (const edge of picked.firing.edges) add(edge.writer, writtenAt(picked.firing, edge));
  }
  for (const id of pinned) {
    const at = id.lastIndexOf("@");
    add(writerOf(id.slice(0, at)), Number(id.slice(at + 1)));
  }
  return nodes;
}

const shortened = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

// What stands under a token's column: its role, if it has one, and its text; and how long that is.
function tokenWords(prompt, token) {
  const named = roleOf(prompt, token);
  const role = named === "other" ? "" : shortened(named, 6);
  const text = shortened((visible(prompt.strings[token]) || "∅").trim() || "␣", 11);
  return { role, text, long: NAMED.letter * [...text].length + (role ? NAMED.role * ([...role].length + 1) : 0) };
}

// Columns as wide as their fullest cell, rows as high as their fullest cell has courses; beside and below them as much
// room as the tokens' slanting names take.
function sentenceLayout(prompt, nodes) {
  const cells = new Map();
  for (const node of nodes.values()) {
    const key = `${node.row}@${node.token}`;
    cells.set(key, [...(cells.get(key) || []), node]);
  }
  for (const cell of cells.values()) cell.sort((a, b) => a.order - b.order);
  const widthOf = (node) => (node.kind === "head" ? CELL.width : CELL.wide);
  let x = 0;
  const columns = prompt.strings.map((text, token) => {
    const mine = [...cells.values()].filter((cell) => cell[0].token === token);
    const widest = Math.max(0, ...mine.map((cell) => Math.min(WIDEST, cell.length) * (Math.max(...cell.map(widthOf)) + CELL.gap)));
    const width = mine.length ? widest + 10 : roleOf(prompt, token) === "other" ? CELL.empty : CELL.named;
    const column = { token, text, x: x + width / 2, width, full: mine.length > 0, words: tokenWords(prompt, token) };
    x += width;
    return column;
  });
  const [across, down] = [Math.cos, Math.sin].map((of) => of((NAMED.tilt * Math.PI) / 180));
  const left = Math.max(CELL.left, ...columns.map((column) => column.words.long * across - column.x + 4));
  for (const column of columns) column.x += left;
  x += left;
  const rows = [...new Set([...nodes.values()].map((node) => node.row))].sort((a, b) => b - a);
  const courses = new Map(
    rows.map((row) => [row, Math.max(...[...cells.values()].filter((cell) => cell[0].row === row).map((cell) => Math.ceil(cell.length / WIDEST)))]),
  );
  let y = CELL.top;
  const places = new Map();
  rows.forEach((row, i) => {
    const more = (courses.get(row) - 1) * CELL.course;
    if (i) y += row % 1 || rows[i - 1] % 1 ? 0.62 * CELL.row : CELL.row;
    places.set(row, { low: y + more + CELL.height / 2, middle: y + (more + CELL.height) / 2 });
    y += more + CELL.height + CELL.gap;
  });
  for (const cell of cells.values()) {
    const column = columns[cell[0].token];
    const own = Math.ceil(cell.length / WIDEST);
    cell.forEach((node, i) => {
      const course = Math.floor(i / WIDEST);
      const many = Math.min(WIDEST, cell.length - course * WIDEST);
      const width = widthOf(node);
      node.width = width;
      node.x = column.x + ((i % WIDEST) - (many - 1) / 2) * (width + CELL.gap);
      node.y = places.get(node.row).low - (own - 1 - course) * CELL.course;
    });
  }
  const layers = rows.filter((row) => row % 1 === 0).map((row) => ({ label: row < 0 ? "input" : String(row), y: places.get(row).middle }));
  const deep = Math.max(...columns.map((column) => column.words.long * down)) + 14;
  return { columns, layers, width: x + 8, height: y + 14 + NAMED.drop + deep, foot: y + 14 };
}

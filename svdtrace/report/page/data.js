// The page's data, as objects. Columns in the JSON, because they are smaller; rows here, because they read better.
const DATA = JSON.parse(byId("data").textContent);
const SIDES = ["dest", "src"];
const SIDE_NAMES = { dest: "query side", src: "key side" };

function rowsOf(columns) {
  const names = Object.keys(columns);
  return Array.from(columns[names[0]], (_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
}

// What a writer is: a head in its layer, an MLP or bias above its layer's heads, the rest below all layers.
function writerOf(name) {
  const head = /^(\d+)\.(\d+)$/.exec(name);
  if (head) return { name, kind: "head", layer: Number(head[1]), order: Number(head[2]) };
  const other = /^(attn_bias|mlp)\.(\d+)$/.exec(name);
  if (other) return { name, kind: other[1], layer: Number(other[2]), order: 0 };
  return { name, kind: name, layer: -1, order: ["embed", "pos", "const"].indexOf(name) };
}

const WRITERS = DATA.writers.map(writerOf);

const CONNECTIONS = rowsOf(DATA.connections).map((row, index) => {
  const side = SIDES[row.side];
  const reader = `${row.layer}.${row.head}`;
  const role = DATA.roles[row.role];
  const writer = WRITERS[row.writer];
  return { ...row, index, writer, reader, role, side, id: `${writer.name}:${reader}@${role}/${side}` };
});
const CONNECTION = new Map(CONNECTIONS.map((connection) => [connection.id, connection]));

const chanceOf = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(2))));

// What a trace may say of an edge beyond its weight.
const EVIDENCE = [
  { key: "stability", label: "Stability", name: "share of reruns that have it", show: (value) => (value === null ? "–" : percent(value, 1)) },
  { key: "p_slices", label: "p slices", name: "p against random slices", show: chanceOf },
  { key: "p_bases", label: "p bases", name: "p against random bases", show: chanceOf },
  { key: "p_prompts", label: "p prompts", name: "p against other prompts", show: chanceOf },
  { key: "q_value", label: "q", name: "q, false-discovery rate", show: chanceOf },
];

const MOVES = rowsOf(DATA.moves).map((row) => ({
  ...row,
  name: `${row.layer}.${row.head}`,
  dest: DATA.roles[row.dest],
  src: DATA.roles[row.src],
}));

const HEADS = rowsOf(DATA.heads).map((row) => {
  const members = row.sizes.reduce((sum, times, size) => sum + times * size, 0);
  return { ...row, name: `${row.layer}.${row.head}`, size: members / row.firings };
});
const HEAD = new Map(HEADS.map((head) => [head.name, head]));

// A prompt's firings from their columns: slices and edges lie one after another in flat lists.
function firingsOf([layers, heads, dests, srcs, patterns, sizes, slices, onDest, onSrc, writers, weights]) {
  let [member, edge] = [0, 0];
  const take = (many, side) =>
    Array.from({ length: many }, () => ({ writer: WRITERS[writers[edge]], weight: weights[edge++], side }));
  return layers.map((layer, i) => ({
    layer,
    head: heads[i],
    name: `${layer}.${heads[i]}`,
    dest: dests[i],
    src: srcs[i],
    pattern: patterns[i],
    slice: slices.slice(member, (member += sizes[i])),
    edges: [...take(onDest[i], "dest"), ...take(onSrc[i], "src")],
  }));
}

// Prompts come packed, which makes them several times smaller; each one's firings become objects when asked for.
const PROMPTS = [];

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function unpackPrompts() {
  for (const { firings: columns, ...prompt } of await unpacked(DATA.prompts)) {
    let made = null;
    Object.defineProperty(prompt, "firings", { get: () => (made ||= firingsOf(columns)) });
    PROMPTS.push(prompt);
  }
}

// The heads that tracing starts from, with the role that they write at; none when it starts everywhere.
const ROOTS = DATA.roots
  .split(",")
  .map((root) => /^\s*(\d+\.\d+)@([^:]*):/.exec(root))
  .filter(Boolean)
  .map(([, name, dest]) => ({ name, dest }));
const isRoot = (name, role) =>
  ROOTS.some(
    (root) => root.name === name && (role === undefined || root.dest === role || !DATA.roles.includes(root.dest)),
  );

// The head that the charts show: the one asked for, else a root, else the one that fires most.
const MOST_FIRING = HEADS.reduce((a, b) => (!a || b.firings > a.firings ? b : a), null);
const chosenHead = () => HEAD.get(State.get("head")) || HEADS.findLast((head) => isRoot(head.name)) || MOST_FIRING;

const ORDERS = Object.fromEntries(
  ["total", "weight", "share", "prompts"].map((rank) => [
    rank,
    [...CONNECTIONS].sort((a, b) => (b[rank] ?? -1) - (a[rank] ?? -1) || a.index - b.index),
  ]),
);

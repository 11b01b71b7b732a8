// Where the circuit's nodes stand: a row for each layer, the first at the bottom; a column for each role, in reading
// order. A writer stands at the token that it wrote to, a reader at the token that it read; so connections run upwards
// within a column, and what a head does, from the token it reads to the token it writes, runs across.
const NODE = { width: 46, height: 24, gap: 16, lift: 38, other: 62 };
const LARGEST = 1.5;
// The whole circuit is in view whatever the screen; where it gets small, names are written larger within their nodes.
const SMALL = 0.8;

const RANK = { head: 0, attn_bias: 0.3, mlp: 0.5, embed: 0, pos: 0, const: 0 };

function placeCircuit(connections, stage) {
  const nodes = new Map();
  const add = (writer, role) => {
    const id = `${writer.name}@${role}`;
    const width = writer.kind === "head" ? NODE.width : NODE.other;
    if (!nodes.has(id)) nodes.set(id, { id, ...writer, role, width, row: writer.layer + RANK[writer.kind] });
    return nodes.get(id);
  };
  for (const connection of connections) {
    add(connection.writer, connection.role);
    add(writerOf(connection.reader), connection.role);
  }
  const { columns, rows, zoom } = fittest(nodes, stage);
  sortCells(nodes, connections, columns, rows.y);
  return { nodes, columns, rows: rows.list, font: zoom < SMALL ? 15.5 : 12.5 };
}

// A crowded cell is laid like bricks, in two or more courses: in as few as show the whole nearly as
// large as it can be.
function fittest(nodes, stage) {
  if (!nodes.size) return { columns: [], rows: { list: [], y: () => 0 }, zoom: 1 };
  const roles = DATA.roles.filter((role) => [...nodes.values()].some((node) => node.role === role));
  const tried = Array.from({ length: Math.max(4, Math.floor(18 / roles.length)) }, (_, i) => {
    const columns = placeColumns(nodes, roles, i + 1);
    const rows = placeRows(nodes, columns, stage);
    const [last, up] = [columns.at(-1), rows.list];
    const width = last.x + last.width / 2;
    const height = up[0].y - up.at(-1).y + 1.1 * up[0].step;
    return { columns, rows, zoom: Math.min(LARGEST, stage.width / width, stage.height / height) };
  });
  const best = Math.max(...tried.map(({ zoom }) => zoom));
  return tried.findLast(({ zoom }) => zoom >= 0.88 * best);
}

function placeColumns(nodes, roles, most) {
  let x = 0;
  return roles.map((role) => {
    const cells = new Map();
    for (const node of nodes.values()) {
      if (node.role === role) cells.set(node.row, [...(cells.get(node.row) || []), node]);
    }
    const courses = (cell) => Math.ceil(cell.length / most);
    const widest = Math.max(
      ...[...cells.values()].map((cell) => (courses(cell) > 1 ? 0.5 : 0) + Math.ceil(cell.length / courses(cell))),
    );
    const width = Math.max(widest * (NODE.width + NODE.gap), NODE.other) + 24;
    const column = { role, cells, courses, x: x + width / 2, width };
    x += width + 8;
    return column;
  });
}

// Rows are as far apart as fills the stage.
function placeRows(nodes, columns, stage) {
  const layers = [...nodes.values()].map((node) => node.layer);
  const low = Math.min(...layers),
    high = Math.max(...layers);
  const last = columns[columns.length - 1];
  const width = last.x + last.width / 2;
  const height = stage.height / Math.min(LARGEST, stage.width / width);
  const courses = Math.max(...columns.flatMap((column) => [...column.cells.values()].map(column.courses)));
  const least = [...nodes.values()].some((node) => node.row % 1) ? 112 : 72;
  const step = Math.min(240, Math.max(least, height / (high - low + 1.1) - NODE.lift * (courses - 1))) + NODE.lift * (courses - 1);
  const y = (row) => -row * step;
  const list = [];
  for (let layer = low; layer <= high; layer += 1) {
    list.push({
      label: layer < 0 ? "input" : String(layer),
      y: y(layer),
      step,
      first: layer === low,
      top: layer === high,
    });
  }
  return { list, y };
}

// Within a cell, nodes go where their neighbours are: a few sweeps of the mean neighbour, as layered drawings do.
function sortCells(nodes, connections, columns, y) {
  const neighbours = new Map([...nodes.keys()].map((id) => [id, []]));
  for (const { writer, reader, role } of connections) {
    neighbours.get(`${writer.name}@${role}`).push(`${reader}@${role}`);
    neighbours.get(`${reader}@${role}`).push(`${writer.name}@${role}`);
  }
  const spread = (column, cell) => {
    const courses = column.courses(cell);
    cell.forEach((node, i) => {
      node.x = column.x + (i - (cell.length - 1) / 2) * ((NODE.width + NODE.gap) / courses);
      node.y = y(node.row) + ((i % courses) - (courses - 1) / 2) * NODE.lift;
    });
  };
  for (const column of columns) {
    for (const cell of column.cells.values())
      spread(
        column,
        cell.sort((a, b) => a.order - b.order),
      );
  }
  const mean = (node) => {
    const near = neighbours.get(node.id).map((id) => nodes.get(id).x);
    return near.length ? near.reduce((a, b) => a + b) / near.length : node.x;
  };
  for (let sweep = 0; sweep < 4; sweep += 1) {
    for (const column of columns) {
      for (const cell of column.cells.values()) {
        const at = new Map(cell.map((node) => [node, mean(node)]));
        spread(
          column,
          cell.sort((a, b) => at.get(a) - at.get(b) || a.order - b.order),
        );
      }
    }
  }
}

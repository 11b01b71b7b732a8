// Ways of lines around nodes: the points at which a line bends, so that it never crosses a node that is not its own.
// Points and nodes are in the drawing's units; a row is all nodes of one height.
const Routing = (() => {
  const CLEAR = 4;
  const APART = 3;
  const half = NODE.height / 2;

  const crosses = (node, x1, x2) =>
    Math.min(x1, x2) < node.x + node.width / 2 + CLEAR && Math.max(x1, x2) > node.x - node.width / 2 - CLEAR;

  const at = (from, to, y) => from.x + ((to.x - from.x) * (y - from.y)) / (to.y - from.y);

  // Stretches of a row, within its column, that no node takes.
  function free(row, { left, right }) {
    const stretches = [];
    let start = left;
    for (const node of [...row].sort((a, b) => a.x - b.x)) {
      stretches.push([start, node.x - node.width / 2 - CLEAR]);
      start = node.x + node.width / 2 + CLEAR;
    }
    return [...stretches, [start, right]].filter(([low, high]) => high >= low);
  }

  // The place in a row nearest to the one wished for, beside the lines that pass it already.
  function place(stretches, wished, taken) {
    const near = stretches.flatMap(([low, high]) => {
      const start = Math.min(high, Math.max(low, wished));
      return [0, 1, -1, 2, -2, 3, -3].map((step) => start + step * APART).filter((x) => x >= low && x <= high);
    });
    const cost = (x) => Math.abs(x - wished) + (taken.some((other) => Math.abs(other - x) < APART) ? 40 : 0);
    return near.length ? near.reduce((a, b) => (cost(b) < cost(a) ? b : a)) : wished;
  }

  function routing(nodes, columns) {
    const bounds = new Map(columns.map(({ role, x, width }) => [role, { left: x - width / 2 + 3, right: x + width / 2 - 3 }]));
    const rows = new Map();
    for (const node of nodes.values()) {
      const key = `${node.role} ${node.y}`;
      rows.set(key, [...(rows.get(key) || []), node]);
    }
    const passing = new Map();
    const lanes = [];
    const between = (from, to, role) =>
      [...rows.entries()].filter(
        ([, [first]]) => first.role === role && first.y + half < Math.max(from.y, to.y) && first.y - half > Math.min(from.y, to.y),
      );

    // The bends of a line within a column: around the first row that it would hit, and so on, on both sides of it.
    function within(from, to, role) {
      const hit = between(from, to, role)
        .filter(([, row]) => {
          const [x1, x2] = [at(from, to, row[0].y + half), at(from, to, row[0].y - half)];
          return row.some((node) => crosses(node, x1, x2));
        })
        .sort(([, a], [, b]) => Math.abs(a[0].y - from.y) - Math.abs(b[0].y - from.y))[0];
      if (!hit) return [];
      const [key, row] = hit;
      const taken = passing.get(key) || [];
      const x = place(free(row, bounds.get(role)), at(from, to, row[0].y), taken);
      passing.set(key, [...taken, x]);
      const away = Math.sign(to.y - from.y) * (half + CLEAR);
      const [before, after] = [{ x, y: row[0].y - away }, { x, y: row[0].y + away }];
      return [...within(from, before, role), before, after, ...within(after, to, role)];
    }

    // Whether a curve with one control point keeps clear of all nodes of the column but its own.
    function clear(from, control, to, role, own) {
      const others = [...nodes.values()].filter((node) => node.role === role && !own.includes(node));
      return Array.from({ length: 21 }, (_, i) => i / 20).every((t) => {
        const [x, y] = ["x", "y"].map((d) => (1 - t) ** 2 * from[d] + 2 * t * (1 - t) * control[d] + t ** 2 * to[d]);
        return !others.some((node) => crosses(node, x, x) && Math.abs(node.y - y) < half + 2);
      });
    }

    // The bends of a line from column to column: up to a lane above the row, along it, and down.
    function across(from, to, row, room) {
      const above = Math.min(...[...nodes.values()].filter((node) => node.row === row).map((node) => node.y)) - half;
      const [low, high] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
      const blocked = (y) =>
        [...nodes.values()].some((node) => crosses(node, low, high) && Math.abs(node.y - y) < half + CLEAR);
      const shared = (y) => lanes.filter((lane) => Math.abs(lane.y - y) < 1 && lane.low < high && lane.high > low).length;
      const heights = Array.from({ length: Math.max(1, Math.floor((room - 16) / 5)) }, (_, i) => above - 9 - 5 * i);
      const cost = (y) => (blocked(y) ? 1000 : 0) + shared(y);
      const y = heights.reduce((a, b) => (cost(b) < cost(a) ? b : a));
      lanes.push({ y, low, high });
      const [up, down] = [
        { x: from.x, y },
        { x: to.x, y },
      ];
      return [...within(from, up, from.role), up, down, ...within(down, to, to.role)];
    }

    return { within, across, clear };
  }

  // Points as the drawing library wants them: shares of the way from end to end, and distances from it.
  function relative(from, to, points) {
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = Math.hypot(dx, dy) || 1;
    return {
      weights: points.map((point) => ((point.x - from.x) * dx + (point.y - from.y) * dy) / length ** 2),
      distances: points.map((point) => ((point.x - from.x) * -dy + (point.y - from.y) * dx) / length),
    };
  }

  return { routing, relative };
})();

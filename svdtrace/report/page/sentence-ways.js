// Ways of lines in the circuit of one sentence: from the top of what wrote to the foot of what read, around all nodes
// that are not their own. Nodes stand in bands of height: between bands a line may turn, within one it goes straight up
// where no node stands.
const Ways = (() => {
  const CLEAR = 4;
  const APART = 4;
  const half = CELL.height / 2;

  // The lowest first.
  function bandsOf(nodes, width) {
    const bands = [];
    for (const node of [...nodes.values()].sort((a, b) => b.y - a.y)) {
      const last = bands.at(-1);
      if (last && node.y + half > last.top) {
        last.top = Math.min(last.top, node.y - half);
        last.nodes.push(node);
      } else bands.push({ top: node.y - half, bottom: node.y + half, nodes: [node], taken: new Map() });
    }
    for (const band of bands) band.free = free(band.nodes, width);
    return bands;
  }

  // Stretches of a band that no node takes.
  function free(nodes, width) {
    const stretches = [];
    let start = CELL.left;
    for (const node of [...nodes].sort((a, b) => a.x - b.x)) {
      stretches.push([start, node.x - node.width / 2 - CLEAR]);
      start = node.x + node.width / 2 + CLEAR;
    }
    return [...stretches, [start, width - CLEAR]].filter(([low, high]) => high >= low);
  }

  // The place in a band nearest to the one wished for, beside the lines that pass it already.
  function lane(band, wished) {
    const places = band.free.flatMap(([low, high]) => {
      const start = Math.min(high, Math.max(low, wished));
      return [0, 1, -1, 2, -2, 3, -3].map((step) => start + step * APART).filter((x) => x >= low && x <= high);
    });
    const key = (x) => Math.round(x / APART);
    const cost = (x) => Math.abs(x - wished) + 12 * (band.taken.get(key(x)) || 0);
    const x = places.length ? places.reduce((a, b) => (cost(b) < cost(a) ? b : a)) : wished;
    band.taken.set(key(x), (band.taken.get(key(x)) || 0) + 1);
    return x;
  }

  // From point to point as cubic curves that leave and come by the points' slopes, upright where they have none.
  const curves = (points, bow = 0) =>
    points.slice(1).map((b, i) => {
      const a = points[i];
      const rise = Math.max(points.length > 2 ? 0 : 14, 0.42 * (a.y - b.y));
      const bend = (point) => (point.slope || 0) * rise;
      return [a, { x: a.x - bend(a) + bow, y: a.y - rise }, { x: b.x + bend(b) + bow, y: b.y + rise }, b];
    });

  const at = ([a, c, d, b], t) => {
    const [p, q, r, s] = [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t ** 2, t ** 3];
    return { x: p * a.x + q * c.x + r * d.x + s * b.x, y: p * a.y + q * c.y + r * d.y + s * b.y };
  };
  // Points of a line, no farther apart than a node's corner is large.
  const along = (drawn) =>
    drawn.flatMap((curve) => {
      const many = Math.max(8, Math.ceil((Math.abs(curve[3].x - curve[0].x) + Math.abs(curve[3].y - curve[0].y)) / 5));
      return Array.from({ length: many + 1 }, (_, i) => at(curve, i / many));
    });

  const inside = (node, { x, y }, room) => Math.abs(x - node.x) < node.width / 2 + room && Math.abs(y - node.y) < half + room;
  const clear = (drawn, bands) => {
    const points = along(drawn);
    return !bands.some((band) => band.nodes.some((node) => points.some((point) => inside(node, point, 2))));
  };

  // Slopes of a smooth line through points: between those of its neighbours, upright where the line turns back.
  function smooth(points) {
    const slope = (a, b) => (b.x - a.x) / (b.y - a.y);
    return points.map((point, i) => {
      if (i === 0 || i === points.length - 1) return point;
      const [before, after] = [slope(points[i - 1], point), slope(point, points[i + 1])];
      return { ...point, slope: before * after > 0 ? (2 * before * after) / (before + after) : 0 };
    });
  }

  // Ways among placed nodes; each call finds the way of one line more, from point to point.
  function ways(nodes, width) {
    const bands = bandsOf(nodes, width);
    return (start, end, bow) => {
      const between = bands.filter((band) => band.bottom < start.y && band.top > end.y);
      const plain = curves([start, end], bow);
      if (clear(plain, between)) return drawnAs(plain);
      const wished = (y) => start.x + ((end.x - start.x) * (y - start.y)) / (end.y - start.y);
      const lanes = between.map((band) => ({ ...band, x: lane(band, wished((band.top + band.bottom) / 2)) }));
      const soft = curves(smooth([start, ...lanes.map(({ x, top, bottom }) => ({ x, y: (top + bottom) / 2 })), end]));
      if (clear(soft, between)) return drawnAs(soft);
      const upright = lanes.flatMap(({ x, top, bottom }) => [{ x, y: bottom + 2 }, { x, y: top - 2 }]);
      return drawnAs(curves([start, ...upright, end]));
    };
  }

  const place = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const drawnAs = (drawn) => ({
    path: `M${place(drawn[0][0])} ${drawn.map(([, c, d, b]) => `C${place(c)} ${place(d)} ${place(b)}`).join(" ")}`,
    points: along(drawn),
  });

  // Where a label of some width stands on a line: near its middle, in no box that is taken, which its own is from then on.
  function labelled(points, wide, taken) {
    const high = 8;
    const meets = ({ x, y }, box) => Math.abs(x - box.x) < (wide + box.width) / 2 + 2 && Math.abs(y - box.y) < high + box.half;
    const order = points.map((_, i) => i).sort((a, b) => Math.abs(a - points.length / 2) - Math.abs(b - points.length / 2));
    const found = order.map((i) => points[i]).find((point) => !taken.some((box) => meets(point, box))) || points[order[0]];
    taken.push({ ...found, width: wide, half: high });
    return found;
  }

  const direct = (start, end) => drawnAs(curves([start, end]));
  // From top to top.
  const over = (start, end) => {
    const high = Math.min(start.y, end.y) - 40;
    return drawnAs([[start, { x: start.x, y: high }, { x: end.x, y: high }, end]]);
  };

  return { ways, labelled, direct, over };
})();

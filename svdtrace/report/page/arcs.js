// Arrows over the tokens, from the token that a head reads to the token that it writes to. Each arc is a firing with a
// kind: `strong` for the firings asked for, `dest` or `src` for those that feed them, on that side, `faint` for others.
const LABELLED = 30;

function drawArcs(frame, layer, arcs) {
  const box = frame.getBoundingClientRect();
  const places = [...frame.querySelectorAll("[data-token]")].map((chip) => {
    const rect = chip.getBoundingClientRect();
    return { x: rect.left - box.left + rect.width / 2, top: rect.top - box.top, bottom: rect.bottom - box.top };
  });
  layer.setAttribute("width", box.width);
  layer.setAttribute("height", box.height);
  layer.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const arrow = svg(
    "marker",
    {
      id: "arrow",
      viewBox: "0 0 8 8",
      refX: 6,
      refY: 4,
      markerWidth: 8,
      markerHeight: 8,
      markerUnits: "userSpaceOnUse",
      orient: "auto-start-reverse",
    },
    svg("path", { d: "M0 0.8 L7 4 L0 7.2 z" }),
  );
  const order = ["faint", "src", "dest", "strong"];
  const drawn = arcs
    .filter(({ firing }) => firing.dest !== firing.src && firing.dest < places.length)
    .sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  const labelled = drawn.filter(({ kind }) => kind !== "faint").length <= LABELLED;
  const lines = [],
    names = [],
    taken = [];
  for (const { firing, kind } of drawn) {
    const { path, top } = curve(places[firing.src], places[firing.dest]);
    lines.push(
      svg("path", {
        d: path,
        class: `arc ${kind}`,
        "marker-end": "url(#arrow)",
        "stroke-width": (0.8 + 1.6 * firing.pattern).toFixed(2),
      }),
    );
    if (labelled && kind !== "faint") names.push(label(firing.name, kind, top, taken));
  }
  layer.replaceChildren(svg("defs", {}, arrow), ...lines, ...names);
}

// On one line an arch above it; between lines a curve from below the upper to above the lower.
function curve(from, to) {
  const sameLine = Math.abs(from.top - to.top) < 4;
  if (sameLine) {
    const rise = Math.min(58, 14 + 0.17 * Math.abs(to.x - from.x));
    const path = `M${from.x} ${from.top} C${from.x} ${from.top - rise} ${to.x} ${to.top - rise} ${to.x} ${to.top}`;
    return { path, top: { x: (from.x + to.x) / 2, y: from.top - 0.75 * rise } };
  }
  const [start, end] = from.top < to.top ? [from.bottom, to.top] : [from.top, to.bottom];
  const middle = (start + end) / 2;
  // The name stands between two lines of tokens: half-way, or, where other lines lie between, just before the end.
  const wished = Math.abs(end - start) < 90 ? middle : end - Math.sign(end - start) * 28;
  const points = Array.from({ length: 41 }, (_, i) => i / 40).map((t) => ({
    x: from.x * ((1 - t) ** 3 + 3 * (1 - t) ** 2 * t) + to.x * (3 * (1 - t) * t ** 2 + t ** 3),
    y: start * (1 - t) ** 3 + 3 * middle * (1 - t) * t + end * t ** 3,
  }));
  return {
    path: `M${from.x} ${start} C${from.x} ${middle} ${to.x} ${middle} ${to.x} ${end}`,
    top: points.reduce((a, b) => (Math.abs(b.y - wished) < Math.abs(a.y - wished) ? b : a)),
  };
}

// A name on the top of its arc, moved aside where another stands already.
function label(name, kind, top, taken) {
  const at = { x: top.x, y: top.y + 4 };
  const clash = () => taken.some((other) => Math.abs(other.x - at.x) < 30 && Math.abs(other.y - at.y) < 13);
  for (let tries = 1; tries < 9 && clash(); tries += 1) at.x = top.x + Math.ceil(tries / 2) * 31 * (tries % 2 ? 1 : -1);
  taken.push(at);
  return svg("text", { x: at.x, y: at.y, class: `arc-name ${kind}` }, name);
}

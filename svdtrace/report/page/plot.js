// Charts: a frame with two named axes, marks that differ in shape and dash as well as in colour, legends.
const Plot = (() => {
  const RIGHT = 14,
    TOP = 30,
    BOTTOM = 44;

  const pen = document.createElement("canvas").getContext("2d");
  function widthOf(text, size = 13) {
    pen.font = `${size}px ${getComputedStyle(document.documentElement).getPropertyValue("--sans")}`;
    return pen.measureText(text).width;
  }

  // Of places and their names those that leave room for one another.
  function spaced(places) {
    let end = -Infinity;
    return places.filter(([at, name]) => {
      const half = widthOf(name) / 2 + 4;
      if (at - half < end) return false;
      end = at + half;
      return true;
    });
  }

  // Below the axis, in the middle of it as far as there is room, in lines where there is not.
  function below(text, middle, width, y) {
    const lines = [""];
    for (const word of text.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (widthOf(longer, 12.5) > width - 8 && lines.at(-1)) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines.map((line, i) => {
      const half = widthOf(line, 12.5) / 2 + 2;
      return svg("text", { x: Math.max(half, Math.min(width - half, middle)), y: y + 15 * i, class: "title" }, line);
    });
  }

  // Round places, about as many as asked for.
  function ticks(low, high, many) {
    const rough = (high - low) / many || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
    const places = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) places.push(i * step);
    return places.map((at) => Number(at.toPrecision(12)));
  }

  // 0, 1, 2, 5, 10, … on an axis that grows by factors and still has a place for 0.
  const COUNTS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
  const grow = (value) => Math.log10(1 + value);

  function axis({ low, high, counts, many = 5 }, from, to) {
    const map = counts ? grow : (value) => value;
    const [first, last] = [map(low), map(high)];
    const at = (value) => from + ((map(value) - first) / (last - first || 1)) * (to - from);
    if (!counts) return { at, places: ticks(low, high, many) };
    return { at, places: COUNTS.filter((each) => each >= low && each <= high) };
  }

  // The upright axis is named above it, where no number of its own can stand.
  // `x`, `y`: low, high, label, perhaps counts, show; `marks(x, y)`: what is drawn, from values to places.
  function frame(place, { x, y, title, height = 250, left }, marks) {
    const width = Math.max(260, place.clientWidth);
    const show = (each, value) => (each.show ? each.show(value) : each.counts ? count(value) : minus(String(value)));
    const up = axis(y, height - BOTTOM, TOP);
    left ||= 12 + Math.max(...up.places.map((value) => widthOf(show(y, value))), 20);
    const across = axis({ ...x, many: Math.max(3, Math.floor((width - left) / 70)) }, left, width - RIGHT);
    const named = below(x.label, (width + left - RIGHT) / 2, width, height - 6);
    const whole = height + 15 * (named.length - 1);
    return svg(
      "svg",
      { viewBox: `0 0 ${width} ${whole}`, role: "img", "aria-label": title, class: "chart", style: { height: `${whole}px` } },
      up.places.map((value) => [
        svg("line", { x1: left, x2: width - RIGHT, y1: up.at(value), y2: up.at(value), class: "grid" }),
        svg("text", { x: left - 7, y: up.at(value) + 4, class: "left" }, show(y, value)),
      ]),
      svg("line", { x1: left, x2: width - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM, class: "base" }),
      spaced(across.places.map((value) => [across.at(value), show(x, value)])).map(([at, name]) =>
        svg("text", { x: at, y: height - BOTTOM + 17 }, name),
      ),
      y.low < 0 && y.high > 0 && svg("line", { x1: left, x2: width - RIGHT, y1: up.at(0), y2: up.at(0), class: "base" }),
      named,
      y.label && svg("text", { x: 0, y: 12, class: "title start" }, y.label),
      marks(across.at, up.at),
    );
  }

  const SHAPES = {
    circle: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
    square: (x, y, r) => svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
    triangle: (x, y, r) => svg("path", { d: `M${x} ${y - 1.2 * r} L${x + 1.1 * r} ${y + r} L${x - 1.1 * r} ${y + r} z` }),
  };

  function mark(shape, name, x, y, r, text) {
    const drawn = SHAPES[shape](x, y, r);
    drawn.setAttribute("class", `mark ${name}`);
    if (text) drawn.append(svg("title", {}, text));
    return drawn;
  }

  const line = (name, points) =>
    points.length > 1 && svg("path", { class: `series ${name}`, d: `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join(" L")}` });

  // Entries: name of the series, shape of its marks (none: a line alone), what it is.
  const legend = (entries) =>
    el(
      "p",
      { class: "legend" },
      entries.map(([name, shape, text]) =>
        el(
          "span",
          {},
          svg("svg", { width: 30, height: 12, "aria-hidden": "true" }, line(name, [[1, 6], [29, 6]]), shape && mark(shape, name, 15, 6, 4)),
          ` ${text}`,
        ),
      ),
    );

  // The lowest and the highest of what is defined, 0 among them, with a little room.
  function reach(values, zero = true) {
    const defined = values.filter((value) => value !== null && value !== undefined);
    if (zero || !defined.length) defined.push(0);
    const [low, high] = [Math.min(...defined), Math.max(...defined)];
    const room = 0.05 * (high - low || 1);
    return { low: low === 0 ? 0 : low - room, high: high === 0 ? 0 : high + room };
  }

  // Draws anew when the address changes any of the keys, and when the place gets another width.
  function keep(place, keys, draw) {
    onWidth(place, draw);
    State.on(keys, draw);
    draw();
  }

  return { frame, mark, line, legend, reach, keep, spaced, widthOf };
})();

// A table of rows under columns of { label, show, text, wide }; the first column names the row.
function tableOf(name, columns, rows) {
  const classes = (column) => [column.text ? "" : "number", column.wide ? "wide" : ""].join(" ").trim() || null;
  const cell = (row, column, i) =>
    el(i ? "td" : "th", { class: classes(column), scope: i ? null : "row" }, column.show(row));
  const table = el(
    "table",
    {},
    el("thead", {}, el("tr", {}, columns.map((each) => el("th", { scope: "col", class: classes(each), title: each.title }, each.label)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((column, i) => cell(row, column, i))))),
  );
  return el(
    "div",
    { class: "tabled" },
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table),
    el("p", { class: "save" }, Saving.table(() => Saving.written(table), () => name)),
  );
}

const interval = (row, name) =>
  row[name] === null || row[name] === undefined
    ? "–"
    : `${signed(row[name])} [${signed(row[`${name}_low`])}, ${signed(row[`${name}_high`])}]`;
const minus = (text) => text.replace(/-/g, "−");
function signed(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 0.01 ? String(Number(value.toPrecision(2))) : short(value);
  return minus(value > 0 ? `+${text}` : text);
}

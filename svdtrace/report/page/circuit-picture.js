// The circuit as SVG, where the drawing library makes pixels alone: what is in view of it, its columns' and rows' names
// beside it, every text as text.
const CircuitPicture = (() => {
  const point = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;

  // Corners rounded as the library rounds them.
  function rounded(stops, radius) {
    const toward = (from, to, far) => {
      const long = Math.hypot(to.x - from.x, to.y - from.y) || 1;
      const share = Math.min(far, long / 2) / long;
      return { x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) };
    };
    const corners = stops.slice(1, -1).map((stop, i) => `L${point(toward(stop, stops[i], radius))} Q${point(stop)} ${point(toward(stop, stops[i + 2], radius))}`);
    return `M${point(stops[0])} ${corners.join(" ")} L${point(stops.at(-1))}`;
  }

  function edge(each) {
    const [start, end] = [each.sourceEndpoint(), each.targetEndpoint()];
    const control = each.controlPoints()?.[0];
    const stops = [start, ...(each.segmentPoints() || []), end];
    const before = control || stops.at(-2);
    const colour = each.style("line-color");
    const dash = { dashed: "7 4", dotted: "1 3" }[each.style("line-style")];
    const width = each.numericStyle("width");
    const [dx, dy] = [end.x - before.x, end.y - before.y];
    const turn = (Math.atan2(dy, dx) * 180) / Math.PI;
    const size = 3.2 + 1.2 * width;
    return svg(
      "g",
      { opacity: each.numericStyle("opacity") },
      svg("path", { d: control ? `M${point(start)} Q${point(control)} ${point(end)}` : rounded(stops, 8), fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": dash }),
      svg("path", { d: `M0 0 L${-size} ${-0.55 * size} L${-size} ${0.55 * size} z`, fill: colour, transform: `translate(${point(end)}) rotate(${turn.toFixed(1)})` }),
    );
  }

  function shape(each, wide, high, border) {
    const { x, y } = each.position();
    const [left, top, cut] = [x - wide / 2, y - high / 2, 6];
    const look = { fill: each.style("background-color"), stroke: each.style("border-color"), "stroke-width": border };
    return each.hasClass("other")
      ? svg("path", { d: `M${left + cut} ${top} h${wide - 2 * cut} l${cut} ${cut} v${high - 2 * cut} l${-cut} ${cut} h${2 * cut - wide} l${-cut} ${-cut} v${2 * cut - high} z`, ...look })
      : svg("rect", { x: left, y: top, width: wide, height: high, rx: each.hasClass("band") ? 0 : 7, ...look });
  }

  function node(each) {
    const [wide, high, border] = [each.width(), each.height(), each.numericStyle("border-width")];
    const double = each.style("border-style") === "double";
    const { x, y } = each.position();
    const size = each.numericStyle("font-size");
    return svg(
      "g",
      { opacity: each.numericStyle("opacity") },
      shape(each, wide, high, double ? 1 : border),
      double && shape(each, wide - 5, high - 5, 1),
      each.data("label") && svg("text", { x, y: y + 0.35 * size, "text-anchor": "middle", "font-size": size, "font-weight": each.style("font-weight"), "font-family": each.style("font-family"), fill: each.style("color") }, each.data("label")),
    );
  }

  // Names of columns and rows, where they stand on the screen.
  function names(frame) {
    const at = frame.getBoundingClientRect();
    return [...frame.querySelectorAll(".axis span:not([hidden])")].map((each) => {
      const [box, css] = [each.getBoundingClientRect(), getComputedStyle(each)];
      return svg(
        "text",
        { x: box.left + box.width / 2 - at.left, y: box.top + box.height / 2 - at.top + 4.5, "text-anchor": "middle", "font-family": css.fontFamily, "font-size": css.fontSize, "font-weight": css.fontWeight, fill: css.color },
        each.textContent,
      );
    });
  }

  function make(cy, frame, title) {
    const stage = cy.container();
    const at = { x: stage.offsetLeft, y: stage.offsetTop };
    const pan = cy.pan();
    const clip = svg("clipPath", { id: "view" }, svg("rect", { x: at.x, y: at.y, width: cy.width(), height: cy.height() }));
    const drawn = svg(
      "g",
      { "clip-path": "url(#view)" },
      svg(
        "g",
        { transform: `translate(${at.x + pan.x} ${at.y + pan.y}) scale(${cy.zoom()})` },
        cy.nodes(".band").map(node),
        [...cy.edges()].sort((a, b) => a.numericStyle("z-index") - b.numericStyle("z-index")).map(edge),
        cy.nodes().not(".band").map(node),
      ),
    );
    const size = [frame.clientWidth, frame.clientHeight];
    return Saving.file(title, [0, 0, ...size], size, [clip, drawn, ...names(frame)]);
  }

  return { make };
})();

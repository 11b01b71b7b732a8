// What a person would see wrong on the page, as lists of words; an empty list where all is well.
(() => {
  const cy = () => document.getElementById("stage")._cyreg.cy;

  const curve = (a, c, b) =>
    Array.from({ length: 41 }, (_, i) => i / 40).map((t) => ({
      x: (1 - t) ** 2 * a.x + 2 * t * (1 - t) * c.x + t * t * b.x,
      y: (1 - t) ** 2 * a.y + 2 * t * (1 - t) * c.y + t * t * b.y,
    }));

  const straight = (stops) =>
    stops.slice(1).flatMap((b, i) => {
      const a = stops[i];
      return Array.from({ length: 41 }, (_, k) => ({ x: a.x + ((b.x - a.x) * k) / 40, y: a.y + ((b.y - a.y) * k) / 40 }));
    });

  function lineOf(edge) {
    const [start, end, control] = [edge.sourceEndpoint(), edge.targetEndpoint(), edge.controlPoints()];
    return control?.length ? curve(start, control[0], end) : straight([start, ...(edge.segmentPoints() || []), end]);
  }

  // Lines of the circuit that run through a node which is not at their end.
  function crossings() {
    const nodes = cy().nodes(".head, .other").toArray();
    const inside = (node, { x, y }) =>
      Math.abs(x - node.position("x")) < node.width() / 2 && Math.abs(y - node.position("y")) < node.height() / 2;
    return cy()
      .edges()
      .toArray()
      .flatMap((edge) => {
        const points = lineOf(edge);
        return nodes
          .filter((node) => !edge.source().same(node) && !edge.target().same(node))
          .filter((node) => points.some((point) => inside(node, point)))
          .map((node) => `${edge.id()} through ${node.id()}`);
      });
  }

  // How far the circuit stays within its frame: left, top, right, bottom.
  function room() {
    const box = cy().nodes().renderedBoundingBox();
    return [box.x1, box.y1, cy().width() - box.x2, cy().height() - box.y2];
  }

  // Words of charts that stand on one another or leave the screen.
  function overlaps() {
    return [...document.querySelectorAll("svg.chart")].flatMap((chart) => {
      const words = [...chart.querySelectorAll("text")].map((text) => ({
        text: text.firstChild.textContent,
        box: text.getBoundingClientRect(),
      }));
      const meet = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
      return words.flatMap((one, i) => [
        ...(one.box.left < -1 || one.box.right > innerWidth + 1 ? [`${one.text} outside`] : []),
        ...words.slice(i + 1).flatMap((two) => (meet(one.box, two.box) ? [`${one.text} over ${two.text}`] : [])),
      ]);
    });
  }

  // Names and numbers, short enough for every screen, that take more than one line.
  function broken() {
    const lines = (element) => {
      const [walk, range] = [document.createTreeWalker(element, NodeFilter.SHOW_TEXT), document.createRange()];
      const places = new Set();
      while (walk.nextNode()) {
        range.selectNodeContents(walk.currentNode);
        for (const box of range.getClientRects()) if (box.width > 0) places.add(Math.round(box.bottom / 6));
      }
      return places.size;
    };
    return [...document.querySelectorAll(".number, .whole")]
      .filter((each) => each.textContent.length < 28 && lines(each) > 1)
      .map((each) => each.textContent);
  }

  // Text with less contrast to what lies behind it than WCAG's level AA asks for.
  function pale() {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (colour) => {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = (element) => {
      if (!element) return [255, 255, 255];
      const colour = read(getComputedStyle(element).backgroundColor);
      return colour[3] > 250 ? colour : behind(element.parentElement);
    };
    const ratio = (element) => {
      const style = getComputedStyle(element);
      const ink = light(read(element instanceof SVGElement ? style.fill : style.color));
      const [dark, bright] = [ink, light(behind(element))].sort((a, b) => a - b);
      return (bright + 0.05) / (dark + 0.05);
    };
    return [...document.querySelectorAll("header *, nav *, main *, footer *")]
      .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
      .filter((each) => each.getBoundingClientRect().width && !each.closest(".hidden, :disabled, option, #stage"))
      .filter((each) => ratio(each) < 4.5)
      .map((each) => `${each.tagName} "${each.textContent.slice(0, 30)}" ${ratio(each).toFixed(2)}`);
  }

  // Tables that are wider than their place.
  const cut = (width) =>
    [...document.querySelectorAll("table")]
      .filter((each) => each.scrollWidth > width)
      .map((each) => each.textContent.slice(0, 40));

  // The middle of the line that is farthest from all nodes, on the screen.
  function loneliest() {
    const far = (edge) =>
      Math.min(
        ...cy()
          .nodes(".head")
          .map((node) =>
            Math.hypot(node.position("x") - edge.midpoint().x, node.position("y") - edge.midpoint().y),
          ),
      );
    const edge = cy().edges(".dest").sort((a, b) => far(b) - far(a))[0];
    const box = document.getElementById("stage").getBoundingClientRect();
    return [box.left + edge.renderedMidpoint().x, box.top + edge.renderedMidpoint().y];
  }

  // The corners of what an SVG element takes, on the screen, however it is turned.
  function corners(element) {
    const { x, y, width, height } = element.getBBox();
    const m = element.getScreenCTM();
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]].map(([a, b]) => ({ x: m.a * a + m.c * b + m.e, y: m.b * a + m.d * b + m.f }));
  }

  // Whether two turned boxes meet by more than a pixel: along no side of either they stand apart.
  function meet(one, two) {
    return [one, two].every((box) =>
      [0, 1].every((i) => {
        const [dx, dy] = [box[i + 1].x - box[i].x, box[i + 1].y - box[i].y];
        const long = Math.hypot(dx, dy) || 1;
        const [a, b] = [one, two].map((each) => each.map(({ x, y }) => (x * dx + y * dy) / long));
        return Math.min(Math.max(...a), Math.max(...b)) - Math.max(Math.min(...a), Math.min(...b)) > 1;
      }),
    );
  }

  // Words of a drawing that stand on one another.
  function stacked(selector) {
    const words = [...document.querySelectorAll(`${selector} text`)].map((text) => [text.textContent, corners(text)]);
    return words.flatMap(([one, box], i) => words.slice(i + 1).filter(([, other]) => meet(box, other)).map(([two]) => `${one} over ${two}`));
  }

  // Points of a path of cubic curves, five pixels apart or less: reading its numbers is a hundred times faster than asking
  // for points at lengths.
  function cubics(path) {
    if (!/^M[^MC]+(C[\d\s.,-]+)+$/.test(path)) throw new Error(`not of cubic curves alone: ${path}`);
    const [x, y] = [0, 1].map((axis) => path.match(/-?[\d.]+/g).map(Number).filter((_, i) => i % 2 === axis));
    const at = (of, i, t) => (1 - t) ** 3 * of[i] + 3 * (1 - t) ** 2 * t * of[i + 1] + 3 * (1 - t) * t * t * of[i + 2] + t ** 3 * of[i + 3];
    const points = [];
    for (let i = 0; i + 3 < x.length; i += 3) {
      // A cubic moves no faster than three times the longest side of its polygon.
      const many = Math.ceil((3 * Math.max(...[0, 1, 2].map((k) => Math.hypot(x[i + k + 1] - x[i + k], y[i + k + 1] - y[i + k])))) / 5) || 1;
      for (let k = 0; k <= many; k += 1) points.push({ x: at(x, i, k / many), y: at(y, i, k / many) });
    }
    return points;
  }

  // Lines of the sentence that run through a node which is not at their end.
  function through() {
    const nodes = [...document.querySelectorAll("#sentence-stage .spot")].map((spot) => [spot.dataset.spot, spot.querySelector("rect, path").getBBox()]);
    return [...document.querySelectorAll("#sentence-stage .way")].flatMap((way) => {
      const points = cubics(way.querySelector(".seen").getAttribute("d"));
      return nodes
        .filter(([id]) => id !== way.dataset.from && id !== way.dataset.to)
        .filter(([, { x, y, width, height }]) => points.some((point) => point.x > x && point.x < x + width && point.y > y && point.y < y + height))
        .map(([id]) => `${way.dataset.line} through ${id}`);
    });
  }

  // Words that are drawn beyond the edge of their drawing.
  function beyond(selector) {
    const edge = document.querySelector(selector).getBoundingClientRect();
    const out = ({ x, y }) => x < edge.left - 1 || x > edge.right + 1 || y < edge.top - 1 || y > edge.bottom + 1;
    return [...document.querySelectorAll(`${selector} text`)].filter((text) => corners(text).some(out)).map((text) => text.textContent);
  }

  // Where the middle of a drawn element is on the screen.
  function middle(selector) {
    const at = document.querySelector(selector).getBoundingClientRect();
    return [at.left + at.width / 2, at.top + at.height / 2];
  }

  const drawn = (selector) => cy().elements(selector).length;
  const box = (selector) => document.querySelector(selector).getBoundingClientRect().toJSON();
  window.look = { crossings, room, overlaps, broken, pale, cut, loneliest, drawn, box, stacked, through, beyond, middle };
})();

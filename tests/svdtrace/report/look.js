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

  const drawn = (selector) => cy().elements(selector).length;
  const box = (selector) => document.querySelector(selector).getBoundingClientRect().toJSON();
  window.look = { crossings, room, overlaps, broken, pale, cut, loneliest, drawn, box };
})();

// How many singular vectors carry a firing's score, and which: histograms over all firings and over one head's.
const Dimensions = (() => {
  const HEIGHT = 230,
    LEFT = 44,
    BOTTOM = 40,
    TOP = 12;

  const all = HEADS.reduce((sum, head) => head.sizes.map((times, size) => times + (sum[size] || 0)), []);

  // Ticks at round places, eight at most.
  function ticks(low, high) {
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((each) => (high - low) / each <= 8) || 1000;
    const places = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) places.push(at);
    return places;
  }

  // As wide as its place, so that its letters have the page's size on every screen.
  function chart(place, low, high, series, labels) {
    const WIDTH = Math.max(240, place.clientWidth);
    const across = (value) => LEFT + ((value - low + 0.5) / (high - low + 1)) * (WIDTH - LEFT - 8);
    const most = Math.max(0.001, ...series.flatMap((each) => each.values));
    const up = (share) => HEIGHT - BOTTOM - (share / most) * (HEIGHT - BOTTOM - TOP);
    const slot = (WIDTH - LEFT - 8) / (high - low + 1);
    const rise = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5].find((each) => most / each <= 4) || 1;
    const levels = [1, 2, 3, 4].map((times) => times * rise).filter((level) => level <= most * 1.001);
    return svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": labels.title, class: "chart" },
      levels.map((level) => [
        svg("line", { x1: LEFT, x2: WIDTH - 8, y1: up(level), y2: up(level), class: "grid" }),
        svg("text", { x: LEFT - 6, y: up(level) + 4, class: "left" }, `${Math.round(100 * level)}%`),
      ]),
      series.map((each, i) =>
        each.values.map(
          (share, value) =>
            value >= low &&
            value <= high &&
            share > 0 &&
            svg(
              "rect",
              {
                x: across(value) - slot * (i ? 0.2 : 0.42),
                width: slot * (i ? 0.4 : 0.84),
                y: up(share),
                height: HEIGHT - BOTTOM - up(share),
                class: each.class,
                rx: 1.5,
              },
              svg("title", {}, `${labels.x} ${value}: ${(100 * share).toFixed(1)}% ${each.of}`),
            ),
        ),
      ),
      svg("line", { x1: LEFT, x2: WIDTH - 8, y1: up(0), y2: up(0), class: "base" }),
      ticks(low, high).map((value) => svg("text", { x: across(value), y: HEIGHT - BOTTOM + 16 }, value)),
      svg("text", { x: (WIDTH + LEFT) / 2, y: HEIGHT - 5, class: "title" }, labels.x),
    );
  }

  const shares = (times, whole) => times.map((each) => each / Math.max(1, whole));
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const legend = (entries) =>
    el(
      "p",
      { class: "legend" },
      entries.map(([name, text]) => el("span", {}, el("i", { class: name }), text)),
    );

  function drawSizes(head) {
    const high = Math.max(
      1,
      all.findLastIndex((times) => times > 0),
    );
    const series = [{ values: shares(all, sum(all)), class: "all", of: "of all firings" }];
    series.push({ values: shares(head.sizes, head.firings), class: "one", of: `of the firings of ${head.name}` });
    put(
      byId("sizes"),
      el("h3", {}, "Vectors in a slice, |S|"),
      legend([
        [
          "all",
          `all ${plural(sum(all), "firing")}, mean ${short(sum(all.map((times, size) => times * size)) / sum(all))}`,
        ],
        ["one", `head ${head.name}, ${plural(head.firings, "firing")}, mean ${short(head.size)}`],
      ]),
      chart(
        byId("sizes"),
        Math.min(
          1,
          all.findIndex((times) => times > 0),
        ),
        high,
        series,
        { x: "|S|", title: "Histogram of slice sizes" },
      ),
    );
  }

  function drawVectors(head) {
    put(
      byId("vectors"),
      el("h3", {}, `Which vectors head ${head.name} uses`),
      legend([
        [
          "one",
          `share of its ${plural(head.firings, "firing")} whose slice holds the vector; vector 0 has the largest singular value`,
        ],
      ]),
      chart(
        byId("vectors"),
        0,
        DATA.vectors - 1,
        [{ values: shares(head.vectors, head.firings), class: "one broad", of: "of its firings" }],
        { x: "singular vector", title: `Singular vectors in the slices of head ${head.name}` },
      ),
    );
  }

  return {
    start() {
      const draw = () => {
        drawSizes(chosenHead());
        drawVectors(chosenHead());
      };
      State.on(["head"], draw);
      draw();
      onWidth(byId("dimensions"), draw);
    },
  };
})();

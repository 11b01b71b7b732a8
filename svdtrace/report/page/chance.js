// Chance and stability: how many connections stand out from each null, |S| beside random bases, shares of reruns.
const Chance = (() => {
  const NULLS = {
    slices: "Random slices of the same size",
    bases: "Random bases of each head's own space",
    prompts: "Other prompts of the same length",
  };

  // What it would take, so that nobody takes want of draws for want of truth.
  function power({ beat_all: best, nulls_needed: needed, smallest_q: least, fdr, nulls }) {
    const could = least > fdr ? `With so few draws none could survive: the smallest q-value is ${chanceOf(least)}. ` : "";
    const more = needed ? `${count(best)} beat every draw; it takes ${count(needed)} draws of each null for them to survive, if they go on (--nulls ${needed}). ` : `None beats all ${count(nulls)} draws of every null. `;
    return `${could}${more}A connection that does not survive may be there all the same. `;
  }

  function sentence(chance) {
    const rate = `${Number((100 * chance.fdr).toPrecision(2))}%`;
    return [
      `Of ${plural(chance.edges, "connection")} that some firing gives a positive weight, whether it leads to a root or not, ${count(chance.surviving)} survive a false-discovery rate of ${rate} against every null: ${count(chance.nulls)} draws of each, corrected for ${plural(chance.candidates, "candidate")}. `,
      `Of the ${plural(CONNECTIONS.length, "connection")} in the table of edges, ${count(CONNECTIONS.filter(({ q_value: q }) => q !== null && q <= chance.fdr).length)} do. `,
      !chance.surviving && power(chance),
      chance.prompts_without_partner > 0 &&
        `${plural(chance.prompts_without_partner, "prompt")} had no other of the same length to be exchanged with. `,
    ];
  }

  function bar(name, { surviving, explained, untested }) {
    const parts = [
      ["survives", surviving, "survive"],
      ["explained", explained, "not told from it"],
      ["untested", untested, "untested"],
    ].filter(([, times]) => times > 0);
    return el(
      "li",
      {},
      el("span", { class: "name" }, NULLS[name] || name),
      el(
        "span",
        { class: "stack", "aria-hidden": "true" },
        parts.map(([kind, times]) => el("span", { class: kind, style: { "flex-grow": times } })),
      ),
      el(
        "span",
        { class: "soft" },
        parts.map(([kind, times, what], i) => [
          i ? ", " : "",
          el("span", { class: "whole" }, el("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), `${count(times)} ${what}`),
        ]),
      ),
    );
  }

  function bases(place, { histogram, random_histogram: random, ...numbers }) {
    const high = Math.max(1, histogram.findLastIndex((share) => share > 0.001), random.findLastIndex((share) => share > 0.001));
    const most = Math.max(...histogram, ...random);
    const points = (shares, x, y) => shares.slice(0, high + 1).map((share, size) => [x(size), y(share), size, share]);
    const series = (name, shape, shares, x, y, of) => [
      Plot.line(name, points(shares, x, y)),
      points(shares, x, y).map(([left, top, size, share]) =>
        Plot.mark(shape, name, left, top, 3.5, `|S| = ${size}: ${(100 * share).toFixed(1)}% of firings, ${of}`),
      ),
    ];
    put(
      place,
      el("h3", {}, "Are singular vectors a special basis?"),
      el(
        "p",
        { class: "note" },
        `A firing takes ${short(numbers.mean_slice)} singular vectors on average, and ${short(numbers.random_mean_slice)} vectors of a random basis (${short(numbers.random_lowest)} to ${short(numbers.random_highest)} over draws; p = ${chanceOf(numbers.p)}).`,
      ),
      Plot.legend([
        ["first", "circle", "singular vectors"],
        ["second", "square", "random bases"],
      ]),
      Plot.frame(
        place,
        {
          x: { low: 0, high, label: "vectors in a slice, |S|" },
          y: { low: 0, high: most * 1.05, label: "share of firings", show: (value) => `${Math.round(100 * value)}%` },
          title: "Slice sizes with singular vectors and with random bases",
        },
        (x, y) => [
          series("second", "square", random, x, y, "random bases"),
          series("first", "circle", histogram, x, y, "singular vectors"),
        ],
      ),
    );
  }

  function reruns(stability) {
    return [
      el("h3", {}, "Stability under other settings"),
      el(
        "p",
        { class: "note" },
        `An edge is there in ${percent(stability.mean, 1)} of these reruns on average; ${plural(stability.in_all, "edge")} in all of them. In the circuit, a fainter line is one that fewer reruns have.`,
      ),
      el(
        "ul",
        { class: "bars reruns" },
        Object.entries(stability.edges_in).map(([name, share]) =>
          el(
            "li",
            {},
            el("span", { class: "name" }, name),
            el("span", { class: "track" }, el("span", { class: "bar", style: { width: `${100 * share}%` } })),
            el("span", { class: "number" }, `${(100 * share).toFixed(1)}%`),
          ),
        ),
      ),
    ];
  }

  return {
    start() {
      const { chance, stability } = DATA;
      if (chance) {
        put(byId("chance-words"), sentence(chance));
        put(byId("chance-nulls"), Object.entries(chance.by_null).map(([name, counts]) => bar(name, counts)));
        if (chance.bases) Plot.keep(byId("chance-bases"), [], () => bases(byId("chance-bases"), chance.bases));
      }
      if (stability) put(byId("chance-reruns"), reruns(stability));
    },
  };
})();

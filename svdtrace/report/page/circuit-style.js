// How the circuit looks; colours are the page's own, so that both colour schemes fit.
function circuitStyle() {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(`--${name}`).trim();
  const font = css.getPropertyValue("--sans").trim();
  return [
    {
      selector: "node",
      style: {
        label: "data(label)",
        width: NODE.width,
        height: NODE.height,
        shape: "round-rectangle",
        "corner-radius": 7,
        "background-color": colour("panel"),
        "border-width": 1.2,
        "border-color": colour("soft"),
        color: colour("ink"),
        "font-family": font,
        "text-valign": "center",
        "text-halign": "center",
        "overlay-opacity": 0,
        "z-index": 10,
      },
    },
    { selector: "node.head", style: { "font-size": "data(font)" } },
    {
      selector: "node.other",
      style: {
        shape: "cut-rectangle",
        width: NODE.other,
        "font-size": 10.5,
        "background-color": colour("sunken"),
        "border-color": colour("line-strong"),
      },
    },
    {
      selector: "node.root",
      style: { "border-width": 3, "border-style": "double", "border-color": colour("ink"), "font-weight": 700 },
    },
    {
      selector: "node.band",
      style: {
        width: "data(width)",
        height: "data(height)",
        "background-color": colour("band"),
        "border-width": 0,
        "z-index": 0,
        "z-compound-depth": "bottom",
        events: "no",
      },
    },
    { selector: "node.band.odd", style: { "background-color": colour("band-odd") } },
    {
      selector: "edge",
      style: {
        width: "data(width)",
        opacity: "data(shade)",
        "edge-distances": "endpoints",
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.75,
        "overlay-opacity": 0,
        "overlay-padding": 6,
        "source-endpoint": "0% -50%",
        "z-index": 5,
      },
    },
    {
      selector: "edge.bowed",
      style: {
        "curve-style": "unbundled-bezier",
        "control-point-distances": "data(bow)",
        "control-point-weights": 0.5,
      },
    },
    { selector: "edge.straight", style: { "curve-style": "straight" } },
    {
      selector: "edge.bent",
      style: {
        "curve-style": "round-segments",
        "segment-distances": "data(distances)",
        "segment-weights": "data(weights)",
        "segment-radii": 8,
      },
    },
    {
      selector: "edge.dest",
      style: {
        "line-color": colour("dest"),
        "target-arrow-color": colour("dest"),
        "target-endpoint": "-24% 50%",
      },
    },
    {
      selector: "edge.src",
      style: {
        "line-color": colour("src"),
        "target-arrow-color": colour("src"),
        "target-endpoint": "24% 50%",
        "line-style": "dashed",
        "line-dash-pattern": [7, 4],
      },
    },
    {
      selector: "edge.move",
      style: {
        "line-color": colour("soft"),
        "target-arrow-color": colour("soft"),
        "target-arrow-shape": "vee",
        "arrow-scale": 0.7,
        "line-style": "dotted",
        opacity: 0.9,
        "z-index": 2,
      },
    },
    { selector: "edge.rightward", style: { "source-endpoint": "36% -50%", "target-endpoint": "-36% -50%" } },
    { selector: "edge.leftward", style: { "source-endpoint": "-36% -50%", "target-endpoint": "36% -50%" } },
    { selector: ".faded", style: { opacity: 0.12 } },
    { selector: "node.near", style: { "border-color": colour("ink"), "border-width": 1.6 } },
    {
      selector: "node.picked",
      style: {
        "border-width": 2.5,
        "border-style": "solid",
        "border-color": colour("ink"),
        "background-color": colour("picked"),
        "font-weight": 700,
      },
    },
    { selector: "edge.near", style: { opacity: 0.95 } },
    { selector: "node.pinned", style: { "border-width": 3, "border-color": colour("ink"), "border-style": "solid", "background-color": colour("sunken") } },
    { selector: ".dimmed", style: { opacity: 0.16 } },
    { selector: "edge.lit", style: { opacity: 1, "z-index": 20 } },
    { selector: "node.lit", style: { opacity: 1, "border-color": colour("ink"), "border-width": 2 } },
    {
      selector: "edge.picked",
      style: {
        opacity: 1,
        "underlay-color": colour("ink"),
        "underlay-opacity": 0.16,
        "underlay-padding": 5,
        "z-index": 20,
      },
    },
  ];
}

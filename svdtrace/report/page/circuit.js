// The circuit: which connections are in view, drawn with Cytoscape.js.
const Circuit = (() => {
  let cy = null;
  let placed = null;
  let moving = [];
  let names = { columns: [], rows: [] };

  const WIDTHS = { total: "total weight", weight: "mean weight", share: "median share of its side" };
  // Where lines meet nodes, in widths of the node from its middle; the style sheet of the drawing has the same.
  const ASIDE = 0.24;
  const MOVE_ASIDE = 0.36;
  // Beyond so many connections the weaker ones are drawn thin.
  const BOLD = 150;

  function inView() {
    const side = State.get("side"),
      focus = State.get("focus"),
      others = State.get("others") === "yes";
    const least = (State.number("min", 0, 100) / 100) * DATA.n_prompts;
    // Layer 0 as the lowest includes what is written before it.
    const low = Number(State.get("low")) > 0 ? State.number("low", 0, DATA.shape.layers) : -1;
    const high = State.get("high") === "" ? DATA.shape.layers : State.number("high", 0, DATA.shape.layers);
    const most = Number(State.get("q")) || Infinity;
    const fits = (connection) =>
      (most === Infinity || (connection.q_value ?? 1) <= most) &&
      (side === "both" || connection.side === side) &&
      connection.prompts >= least &&
      (others || connection.role !== "other") &&
      connection.writer.layer >= low &&
      connection.layer <= high &&
      (!focus || connection.reader === focus || connection.writer.name === focus);
    const order = ORDERS[State.get("rank")] || ORDERS.total;
    const fitting = order.filter(fits);
    return { fitting: fitting.length, shown: fitting.slice(0, State.number("n", 1, 1000)) };
  }

  // A head's way from the token that it reads to the token that it writes, where both are in view.
  function movesBetween(nodes) {
    return MOVES.filter(
      (move) =>
        move.src !== move.dest && nodes.has(`${move.name}@${move.src}`) && nodes.has(`${move.name}@${move.dest}`),
    );
  }

  // Stability is the line's opacity; a trace without it shows strength by opacity as well as by width.
  const shadeOf = ({ stability }, strength) =>
    stability === undefined || stability === null ? 0.4 + 0.55 * Math.sqrt(strength) : 0.12 + 0.85 * stability;

  function nodesOf() {
    return [...placed.nodes.values()].map((node) => ({
      group: "nodes",
      classes: `${node.kind === "head" ? "head" : "other"} ${isRoot(node.name, node.role) ? "root" : ""}`,
      data: { id: node.id, label: node.name, font: placed.font },
      position: { x: node.x, y: node.y },
    }));
  }

  function bandsOf() {
    return placed.columns.map((column, i) => ({
      group: "nodes",
      classes: `band ${i % 2 ? "odd" : ""}`,
      selectable: false,
      grabbable: false,
      data: { id: `band ${column.role}`, label: "", width: column.width, height: bandHeight() },
      position: { x: column.x, y: bandMiddle() },
    }));
  }

  // A line from the top of the writer to the foot of the reader: a slight bow, or, where nodes are in its way, bends.
  function connectionLine(connection, strength, routes, thin) {
    const { role, side, writer, reader } = connection;
    const [source, target] = [placed.nodes.get(`${writer.name}@${role}`), placed.nodes.get(`${reader}@${role}`)];
    const from = { x: source.x, y: source.y - NODE.height / 2 };
    const to = { x: target.x + (side === "dest" ? -1 : 1) * ASIDE * target.width, y: target.y + NODE.height / 2 };
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = Math.hypot(dx, dy);
    const bow = (side === "dest" ? -1 : 1) * (5 + (0.1 * dy ** 2) / length);
    const control = { x: (from.x + to.x) / 2 - (bow * dy) / length, y: (from.y + to.y) / 2 + (bow * dx) / length };
    const bowed = routes.clear(from, control, to, role, [source, target]);
    const bends = bowed ? [] : routes.within(from, to, role);
    return {
      group: "edges",
      classes: `${side} ${bowed ? "bowed" : bends.length ? "bent" : "straight"}`,
      data: {
        id: connection.id,
        source: source.id,
        target: target.id,
        bow,
        ...(bends.length && Routing.relative(from, to, bends)),
        width: thin ? 0.8 : 1.2 + 4.6 * strength ** 0.8,
        shade: thin ? 0.3 : shadeOf(connection, strength),
      },
    };
  }

  // A head at work leaves at the top of one of its nodes and comes down on the other.
  function moveLine(move, routes) {
    const [source, target] = [placed.nodes.get(`${move.name}@${move.src}`), placed.nodes.get(`${move.name}@${move.dest}`)];
    const aside = Math.sign(target.x - source.x) * MOVE_ASIDE;
    const from = { x: source.x + aside * source.width, y: source.y - NODE.height / 2, role: source.role };
    const to = { x: target.x - aside * target.width, y: target.y - NODE.height / 2, role: target.role };
    return {
      group: "edges",
      classes: `move bent ${aside > 0 ? "rightward" : "leftward"}`,
      data: {
        id: moveId(move),
        source: source.id,
        target: target.id,
        ...Routing.relative(from, to, routes.across(from, to, source.row, placed.rows[0].step / 2)),
        width: 1.4 + 1.4 * (move.prompts / DATA.n_prompts),
      },
    };
  }

  const moveId = (move) => `move ${move.name} ${move.src} ${move.dest}`;
  const rankOf = () => (["weight", "share"].includes(State.get("rank")) ? State.get("rank") : "total");

  function elements(shown) {
    const most = Math.max(...shown.map((connection) => connection[rankOf()] || 0), 1e-9);
    const strength = (connection) => Math.max(0, (connection[rankOf()] || 0) / most);
    const routes = Routing.routing(placed.nodes, placed.columns);
    return [
      ...bandsOf(),
      ...nodesOf(),
      ...moving.map((move) => moveLine(move, routes)),
      ...shown.map((connection, rank) => connectionLine(connection, strength(connection), routes, rank >= BOLD)),
    ];
  }

  // Bands reach a little further up than down, because what an MLP writes stands above its layer's heads.
  const bandHeight = () => placed.rows[0].y - placed.rows.at(-1).y + placed.rows[0].step * 1.04;
  const bandMiddle = () => (placed.rows[0].y + placed.rows.at(-1).y) / 2 - placed.rows[0].step * 0.1;

  function draw() {
    const { fitting, shown } = inView();
    const stage = byId("stage");
    placed = placeCircuit(shown, { width: stage.clientWidth, height: stage.clientHeight });
    moving = State.get("moves") === "yes" ? movesBetween(placed.nodes) : [];
    cy.batch(() => {
      cy.elements().remove();
      if (shown.length) cy.add(elements(shown));
    });
    // So many lines drawn anew in every frame would lag behind the pointer: while it drags or zooms, they move as one
    // picture. The option of the start cannot follow how many there are.
    cy.renderer().textureOnViewport = shown.length > BOLD;
    nameAxes();
    byId("stage-empty").hidden = shown.length > 0;
    const thin = shown.length > BOLD ? `; the ${count(shown.length - BOLD)} weakest are thin` : "";
    byId("shown").textContent = `${plural(shown.length, "connection")} of ${count(fitting)} that pass the filters${thin}`;
    legend();
    fit();
    mark();
    CircuitPicks.show(cy);
  }

  // Only what is drawn is explained.
  function legend() {
    byId("legend-width").textContent = WIDTHS[rankOf()];
    const nodes = [...placed.nodes.values()];
    byId("legend-move").hidden = moving.length === 0;
    byId("legend-root").hidden = !nodes.some((node) => isRoot(node.name, node.role));
    byId("legend-other").hidden = nodes.every((node) => node.kind === "head");
  }

  function fit() {
    if (!placed.nodes.size) return;
    cy.fit(cy.nodes(".band"), 6);
    if (cy.zoom() > LARGEST) {
      cy.zoom(LARGEST);
      cy.center(cy.nodes(".band"));
    }
    axes();
  }

  // Names of columns and rows stay at the edge of the stage while the drawing moves under them: made once a drawing, and
  // only moved from then on, since that is done in every frame.
  function nameAxes() {
    names = {
      columns: placed.columns.map((column) => el("span", { title: column.role }, DATA.roles.length > 1 ? column.role : "all tokens")),
      rows: placed.rows.map((row) => el("span", { class: row.label.length > 3 ? "word" : null }, row.label)),
    };
    for (const [id, all] of Object.entries(names)) put(byId(id), all);
  }

  function axes() {
    const [zoom, pan, height, width] = [cy.zoom(), cy.pan(), cy.height(), cy.width()];
    placed.columns.forEach((column, i) => {
      const x = column.x * zoom + pan.x;
      const name = names.columns[i];
      name.hidden = x <= 0 || x >= width;
      name.style.left = `${x}px`;
      name.style.maxWidth = `${Math.max(column.width * zoom, 18)}px`;
    });
    placed.rows.forEach((row, i) => {
      const y = row.y * zoom + pan.y;
      names.rows[i].hidden = y <= 24 || y >= height;
      names.rows[i].style.top = `${y}px`;
    });
  }

  // The picked node or connection stands out with all that touches it; the rest fades.
  function mark() {
    const picked = cy.getElementById(State.get("pick"));
    cy.batch(() => {
      cy.elements().removeClass("faded picked near");
      if (picked.empty()) return;
      // Of a head, also what it reads at the tokens that it attends to.
      const sources = picked.isNode() ? picked.incomers("edge.move").sources() : cy.collection();
      const near = (picked.isNode() ? picked.closedNeighborhood() : picked.union(picked.connectedNodes())).union(
        sources.incomers("edge.src").union(sources.incomers("edge.src").sources()),
      );
      cy.elements().not(".band").not(near).addClass("faded");
      near.addClass("near");
      picked.addClass("picked");
    });
  }

  function pick(id) {
    const node = placed.nodes.get(id);
    State.set(node && node.kind === "head" ? { pick: id, head: node.name } : { pick: id });
  }

  const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  function step(direction) {
    const all = [...placed.nodes.values()];
    const from = placed.nodes.get(State.get("pick"));
    if (!all.length) return;
    if (!from) return pick(all.reduce((a, b) => (b.y < a.y || (b.y === a.y && b.x > a.x) ? b : a)).id);
    const [dx, dy] = DIRECTIONS[direction];
    const cost = (node) => {
      const along = (node.x - from.x) * dx + (node.y - from.y) * dy;
      const aside = Math.abs((node.x - from.x) * dy) + Math.abs((node.y - from.y) * dx);
      return along > 1 ? along + 2.5 * aside : Infinity;
    };
    const next = all.reduce((a, b) => (cost(b) < cost(a) ? b : a));
    if (cost(next) < Infinity) pick(next.id);
  }

  // The library draws when a screen is next refreshed, which comes too late for a print: there a copy is drawn at once.
  function forPaper() {
    const frame = byId("frame");
    frame.querySelector(".printed")?.remove();
    cy.style(circuitStyle());
    if (!document.documentElement.classList.contains("paper")) return;
    const src = Saving.address(CircuitPicture.make(cy, frame, "Circuit"));
    byId("stage").after(el("img", { class: "printed", src, alt: "", width: frame.clientWidth, height: frame.clientHeight }));
  }

  // Around what is picked, if anything is.
  function zoomBy(factor) {
    const picked = cy.getElementById(State.get("pick"));
    if (picked.nonempty()) cy.center(picked);
    cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) step(event.key);
    else if (event.key === "+" || event.key === "=") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "p") CircuitPicks.pinPicked();
    else if (event.key === "Escape") State.set({ pick: "" });
    else if (event.key === "Enter") byId("details").focus();
    else return;
    event.preventDefault();
  }

  // The wheel and an upright swipe scroll the page, as everywhere else; Ctrl or ⌘ with the wheel, sideways swipes and two
  // fingers are for the drawing.
  function leaveScrollingToPage(frame) {
    frame.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
      },
      { capture: true },
    );
    let first = null,
      upright = false;
    frame.addEventListener(
      "touchstart",
      (event) => {
        first = event.touches[0];
        upright = false;
      },
      { capture: true, passive: true },
    );
    frame.addEventListener(
      "touchmove",
      (event) => {
        const [across, up] = [event.touches[0].clientX - first.clientX, event.touches[0].clientY - first.clientY].map(
          Math.abs,
        );
        upright = event.touches.length === 1 && (upright || up > across);
        if (upright) event.stopPropagation();
      },
      { capture: true, passive: true },
    );
    // To the library such a swipe was never a tap.
    frame.addEventListener(
      "touchend",
      (event) => {
        if (!upright) return;
        event.stopPropagation();
        event.target.dispatchEvent(new Event("touchcancel", { bubbles: true }));
      },
      { capture: true, passive: true },
    );
  }

  function start() {
    const stage = byId("stage");
    cy = cytoscape({
      container: stage,
      elements: [],
      style: circuitStyle(),
      layout: { name: "preset" },
      minZoom: 0.08,
      maxZoom: 4,
      autoungrabify: true,
      boxSelectionEnabled: false,
    });
    cy.on("tap", (event) => {
      if (event.target === cy) State.set({ pick: "" });
      else if (event.originalEvent.shiftKey && event.target.is(".head, .other")) CircuitPicks.toggle(event.target.id());
      else if (!event.target.is(".move, .band")) pick(event.target.id());
    });
    Hover.start(cy, { stage, tip: byId("tip"), moveOf: (id) => moving.find((move) => moveId(move) === id) });
    cy.on("viewport", axes);
    leaveScrollingToPage(byId("frame"));
    byId("frame").addEventListener("keydown", onKey);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cy.style(circuitStyle()));
    onWidth(stage, () => {
      cy.resize();
      draw();
    });
    addEventListener("paper", forPaper);
    byId("zoom-in").addEventListener("click", () => zoomBy(1.25));
    byId("zoom-out").addEventListener("click", () => zoomBy(0.8));
    byId("zoom-fit").addEventListener("click", fit);
    State.on(["n", "rank", "min", "side", "low", "high", "moves", "others", "focus", "q"], draw);
    State.on(["pick"], mark);
    CircuitPicks.start(cy);
    byId("circuit-under").append(Saving.buttons(() => CircuitPicture.make(cy, byId("frame"), "Circuit"), () => "circuit"));
    draw();
  }

  return { start, pick, inView };
})();

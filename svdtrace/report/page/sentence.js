// The circuit of one sentence, drawn with its own tokens; what is picked shows its card beside it.
const Sentence = (() => {
  const MOST = 500;
  let placed = null;
  let drawnFor = null;
  let zoom = 1;
  let pins = null;

  const current = () => PROMPTS.find((prompt) => String(prompt.prompt) === State.get("prompt")) || PROMPTS[0];

  // What the address says is picked: a firing `2.6@14:4`, a line into it `1.5:2.6@14:4/src`, or a writer `0.3@5`.
  function seenIn(prompt) {
    const text = State.get("see");
    const found = /^(?:([^:@]+):)?(\d+\.\d+)@(\d+):(\d+)(?:\/(dest|src))?$/.exec(text);
    if (found) {
      const [, writer, name, dest, src, side] = found;
      const firing = prompt.firings.find((each) => each.name === name && each.dest === Number(dest) && each.src === Number(src));
      return firing ? { firing, writer, side } : null;
    }
    const spotted = /^([^:@]+)@(\d+)$/.exec(text);
    return spotted && Number(spotted[2]) < prompt.strings.length ? { spot: [spotted[1], Number(spotted[2])] } : null;
  }

  const idOf = (firing, edge) => `${edge.writer.name}:${firing.name}@${firing.dest}:${firing.src}/${edge.side}`;
  const from = ({ firing, edge }) => spot(edge.writer.name, writtenAt(firing, edge));
  const into = ({ firing }) => spot(firing.name, firing.dest);
  const mineIn = (seen) => (seen?.firing ? spot(seen.firing.name, seen.firing.dest) : seen?.spot ? spot(...seen.spot) : null);

  function seeing(id) {
    const node = placed?.nodes.get(id);
    const best = [...(node?.firings || [])].sort((a, b) => b.pattern - a.pattern)[0];
    return best ? `${best.name}@${best.dest}:${best.src}` : id;
  }
  const pickNode = (id) => State.set({ see: seeing(id) });

  const everyEdge = (prompt) => prompt.firings.flatMap((firing) => firing.edges.map((edge) => ({ firing, edge })));

  // The strongest lines that lead to the last token; all lines into what is picked; those between pinned nodes.
  function shownLines(prompt, seen, pinned) {
    const every = flows(prompt);
    const shown = every.slice(0, State.number("lines", 5, MOST));
    const known = new Set(shown.map(({ firing, edge }) => idOf(firing, edge)));
    const least = shown.at(-1)?.value || 1e-3;
    const add = (line) => {
      const id = idOf(line.firing, line.edge);
      if (!known.has(id)) shown.push({ ...line, value: least });
      known.add(id);
    };
    for (const edge of seen?.firing?.edges || []) add({ firing: seen.firing, edge });
    for (const line of pinned.size ? everyEdge(prompt) : []) if (pinned.has(from(line)) && pinned.has(into(line))) add(line);
    return { shown, all: every.length };
  }

  // Of each line how it stands to what is picked.
  function marked(line, rank, seen) {
    const { firing, edge } = line;
    const mine = mineIn(seen);
    const picked = seen?.firing === firing && (!seen.writer || (seen.writer === edge.writer.name && seen.side === edge.side));
    const near = picked || (mine !== null && from(line) === mine);
    return { ...line, id: idOf(firing, edge), rank, picked: Boolean(picked), near, faded: Boolean(seen) && !near, side: edge.side };
  }

  function draw() {
    const prompt = current();
    const seen = seenIn(prompt);
    const pinned = pins?.pinned() || new Set();
    const { shown, all } = shownLines(prompt, seen, pinned);
    byId("lines").max = Math.min(MOST, Math.max(5, all));
    const nodes = sentenceNodes(prompt, shown, seen?.firing && { firing: seen.firing }, pinned);
    const layout = sentenceLayout(prompt, nodes);
    const lines = shown.map((line, rank) => ({ ...marked(line, rank, seen), from: nodes.get(from(line)), to: nodes.get(into(line)) }));
    placed = { prompt, nodes, lines, ...layout };
    const stage = byId("sentence-stage");
    size();
    put(stage, drawing(prompt, seen, pinned));
    facts(lines, all);
    byId("sentence-output").textContent = outputWords(prompt);
    const select = byId("sentence-select");
    if (select) select.value = String(prompt.prompt);
    Cards.draw(prompt, seen);
    if (drawnFor !== prompt) byId("sentence-frame").scrollLeft = stage.clientWidth;
    drawnFor = prompt;
  }

  function drawing(prompt, seen, pinned) {
    const { nodes, lines, layers, width } = placed;
    const way = Ways.ways(nodes, width);
    const most = Math.max(...lines.map(({ value }) => value), 1e-9);
    const drawn = lines.map((line) => ({ line, way: way(...SentenceDrawing.ends(line.from, line.to, line.side)) }));
    const touched = new Set(lines.filter(({ near, picked }) => (seen?.writer ? picked : near)).flatMap((line) => [line.from.id, line.to.id]));
    const mine = mineIn(seen);
    const boxes = [...nodes.values()].map((each) => ({ x: each.x, y: each.y, width: each.width, half: CELL.height / 2 }));
    const label = ({ line, way: { points } }) => {
      const text = Cards.weight(line.edge.weight);
      const { x, y } = Ways.labelled(points, 7.4 * text.length, boxes);
      return svg("text", { class: `on-line ${line.side}`, x, y: y + 4 }, text);
    };
    return [
      SentenceDrawing.tokens(prompt, placed, seen?.firing),
      layers.map(({ label: name, y }) => svg("text", { class: "layer", x: 4, y: y + 4 }, name)),
      // The strongest last, above all others.
      [...drawn].reverse().map(({ line, way: each }) => SentenceDrawing.line(line, most, each)),
      SentenceDrawing.output(prompt, placed, nodes, way, seen && mine),
      [...nodes.values()].map((each) =>
        SentenceDrawing.node(each, prompt, { mine: each.id === mine, faded: seen && each.id !== mine && !touched.has(each.id), pinned: pinned.has(each.id) }),
      ),
      drawn.filter(({ line }) => line.picked).map(label),
    ];
  }

  function facts(lines, all) {
    const thin = lines.length - SentenceDrawing.BOLD;
    const shown = all ? `${plural(lines.length, "line")} of ${count(all)} that lead to the last token` : "No line leads to the last token.";
    byId("sentence-shown").textContent = thin > 0 ? `${shown}; the ${count(thin)} weakest are thin` : shown;
    byId("lines-value").textContent = lines.length;
    const { nodes } = placed;
    const drawn = { dest: lines.some(({ side }) => side === "dest"), src: lines.some(({ side }) => side === "src") };
    drawn.effect = placed.prompt.effects.length > 0;
    drawn.head = [...nodes.values()].some((each) => each.kind === "head" && each.firings.length);
    drawn.silent = [...nodes.values()].some((each) => each.kind === "head" && !each.firings.length);
    drawn.pinned = [...nodes.keys()].some((id) => pins?.pinned().has(id));
    drawn.other = [...nodes.values()].some((each) => each.kind !== "head");
    for (const each of document.querySelectorAll("#sentence-legend [data-of]")) each.hidden = !drawn[each.dataset.of];
  }

  function outputWords(prompt) {
    if (prompt.effects.length) return `Lines into the output are the heads' direct effects${prompt.target === null ? "" : ` on “${visible(prompt.target)}”`}.`;
    return "No lines lead into the output: trace with --roots logit or --roots probability for the heads' direct effects on it.";
  }

  // As large as fits, but never so small that names cannot be read: then the frame scrolls. Paper shows all of it.
  const room = () => [byId("sentence-frame").clientWidth - 4, Math.min(800, Math.max(420, 0.66 * innerHeight)) - 4];
  const fitting = () => Math.min(room()[0] / placed.width, room()[1] / placed.height);
  const readable = () => (document.documentElement.classList.contains("paper") ? room()[0] / placed.width : Math.max(0.74, fitting()));
  const scale = () => (document.documentElement.classList.contains("paper") ? Math.min(1.3, readable()) : zoom * Math.min(1.3, readable()));

  function size() {
    const stage = byId("sentence-stage");
    stage.setAttribute("viewBox", `0 0 ${placed.width.toFixed(1)} ${placed.height.toFixed(1)}`);
    stage.setAttribute("width", (placed.width * scale()).toFixed(1));
    stage.setAttribute("height", (placed.height * scale()).toFixed(1));
  }

  // Around what is picked, if anything is, else around the middle of what is in view.
  function zoomTo(next) {
    const frame = byId("sentence-frame");
    const before = scale();
    const node = placed.nodes.get(mineIn(seenIn(current())));
    const middle = node ? [node.x, node.y] : [(frame.scrollLeft + frame.clientWidth / 2) / before, (frame.scrollTop + frame.clientHeight / 2) / before];
    zoom = Math.min(4, Math.max(0.1, next));
    size();
    frame.scrollLeft = middle[0] * scale() - frame.clientWidth / 2;
    frame.scrollTop = middle[1] * scale() - frame.clientHeight / 2;
  }
  const zoomBy = (factor) => zoomTo(zoom * factor);
  const fit = () => zoomTo(Math.min(1, fitting() / Math.min(1.3, readable())));

  const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  function step(direction) {
    const all = [...placed.nodes.values()];
    const at = placed.nodes.get(mineIn(seenIn(current())));
    if (!all.length) return;
    if (!at) return pickNode(all.reduce((a, b) => (b.y < a.y || (b.y === a.y && b.x > a.x) ? b : a)).id);
    const [dx, dy] = DIRECTIONS[direction];
    const cost = (each) => {
      const along = (each.x - at.x) * dx + (each.y - at.y) * dy;
      const aside = Math.abs((each.x - at.x) * dy) + Math.abs((each.y - at.y) * dx);
      return along > 1 ? along + 2.5 * aside : Infinity;
    };
    const next = all.reduce((a, b) => (cost(b) < cost(a) ? b : a));
    if (cost(next) < Infinity) {
      pickNode(next.id);
      byId("sentence-stage").querySelector(".spot.picked")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  // A line's two ends are pinned together.
  function pinSeen() {
    const seen = seenIn(current());
    if (!seen) return;
    const line = seen.writer && placed.lines.find((each) => each.picked);
    pins.toggle(...(line ? [line.from.id, line.to.id] : [mineIn(seen)]));
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) step(event.key);
    else if (event.key === "+" || event.key === "=") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "p") pinSeen();
    else if (event.key === "Escape") State.set({ see: "" });
    else if (event.key === "Enter") byId("card").focus();
    else return;
    event.preventDefault();
  }

  function onClick(event) {
    const target = event.target.closest(".spot, .way");
    if (!target) return;
    const { spot: node, line, from: source } = target.dataset;
    if (event.shiftKey && node) pins.toggle(node);
    else if (line) State.set({ see: line });
    else pickNode(node || source);
  }

  // With a mouse the drawing is dragged; a drag is no click.
  function draggable(frame) {
    let start = null;
    let moved = false;
    frame.addEventListener("pointerdown", (event) => {
      moved = false;
      if (event.pointerType === "mouse" && event.button === 0) start = [event.clientX + frame.scrollLeft, event.clientY + frame.scrollTop];
    });
    addEventListener("pointermove", (event) => {
      if (!start || !event.buttons) return;
      const [left, top] = [start[0] - event.clientX, start[1] - event.clientY];
      moved ||= Math.hypot(left - frame.scrollLeft, top - frame.scrollTop) > 4;
      if (moved) frame.scrollTo({ left, top, behavior: "instant" });
    });
    addEventListener("pointerup", () => {
      start = null;
    });
    frame.addEventListener("click", (event) => moved && event.stopPropagation(), { capture: true });
    frame.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      },
      { passive: false },
    );
  }

  // Firings by head, by a vector of their slices, by the text or role of either token; writers that do not fire, too.
  function found(terms) {
    const prompt = current();
    const said = (token) => `“${visible(prompt.strings[token])}” (${roleOf(prompt, token) === "other" ? token : roleOf(prompt, token)})`;
    const fits = (token, text) => visible(prompt.strings[token]).toLowerCase().includes(text) || roleOf(prompt, token).toLowerCase() === text;
    const of = (name, tokens, slice) =>
      terms.every(({ head, vector, text }) => (head !== undefined ? name.startsWith(head) : vector !== undefined ? slice.includes(vector) : tokens.some((token) => fits(token, text))));
    const vectors = terms.filter(({ vector }) => vector !== undefined).map(({ vector }) => `, vector ${vector}`);
    const firings = prompt.firings
      .filter((firing) => of(firing.name, [firing.dest, firing.src], firing.slice))
      .sort((a, b) => b.dest - a.dest || b.layer - a.layer || b.pattern - a.pattern)
      .map((firing) => ({ label: `${firing.name} at ${said(firing.dest)} looks at ${said(firing.src)}${vectors.join("")}`, act: () => State.set({ see: `${firing.name}@${firing.dest}:${firing.src}` }) }));
    const fires = new Set(prompt.firings.map((firing) => spot(firing.name, firing.dest)));
    const silent = [...new Map(everyEdge(prompt).map((line) => [from(line), line.edge.writer.name])).entries()]
      .filter(([id, name]) => !fires.has(id) && of(name, [Number(id.split("@")[1])], []))
      .map(([id, name]) => ({ label: `${name} at ${said(Number(id.split("@")[1]))} writes`, act: () => State.set({ see: id }) }));
    return [...firings, ...silent];
  }

  function startPins() {
    const parts = (id) => [id.slice(0, id.lastIndexOf("@")), Number(id.slice(id.lastIndexOf("@") + 1))];
    pins = Subgraph.start({
      key: "pins",
      place: byId("sentence-pins"),
      of: () => current().prompt,
      view: {
        known: (id) => parts(id)[1] < current().strings.length,
        words: (id) => `${parts(id)[0]} at “${visible(current().strings[parts(id)[1]])}”`,
        level: (id) => writerOf(parts(id)[0]).layer + (/^mlp/.test(id) ? 0.5 : 0),
        order: (id) => parts(id)[1],
        edges: () => everyEdge(current()).map((line) => ({ from: from(line), to: into(line), side: line.edge.side, weight: line.edge.weight })),
        weight: Cards.weight,
        where: "this prompt",
        show: pickNode,
      },
    });
  }

  return {
    start() {
      const select = byId("sentence-select");
      if (select) {
        put(select, PROMPTS.map((prompt) => el("option", { value: prompt.prompt }, promptName(prompt))));
        select.addEventListener("change", (event) => State.set({ prompt: event.target.value, token: "", see: "" }));
      }
      bind("lines", "lines");
      const [frame, stage] = [byId("sentence-frame"), byId("sentence-stage")];
      frame.addEventListener("keydown", onKey);
      draggable(frame);
      stage.addEventListener("click", onClick);
      SentenceHover.start(stage, byId("sentence-tip"), () => placed);
      for (const [id, act] of [["in", () => zoomBy(1.25)], ["out", () => zoomBy(0.8)], ["fit", fit]]) byId(`sentence-${id}`).addEventListener("click", act);
      byId("sentence-under").append(Saving.buttons(() => Saving.ofSvg(stage, `${promptName(current())}`), () => `prompt ${current().prompt}`));
      Search.start(byId("sentence-find"), byId("sentence-found"), found);
      startPins();
      State.on(["prompt", "see", "lines", "pins"], draw);
      draw();
      onWidth(frame, draw);
    },
    pinSeen,
    isPinned: (id) => pins?.pinned().has(id) || false,
  };
})();

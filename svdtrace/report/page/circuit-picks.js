// What of the circuit is found by name, and what is pinned to be a subgraph.
const CircuitPicks = (() => {
  let pins = null;

  // Heads, other writers and roles by name; connections by a singular vector (`v3`) in their readers' slices.
  const found = (cy) => (terms) => {
    const fits = (name, role, vectors) =>
      terms.every(({ head, vector, text }) => (head !== undefined ? name.startsWith(head) : vector !== undefined ? vectors?.includes(vector) : role.toLowerCase().includes(text)));
    const show = (id, name) => () => {
      if (cy.getElementById(id).empty()) State.set({ focus: name });
      Circuit.pick(id);
    };
    if (terms.some(({ vector }) => vector !== undefined))
      return ORDERS.total
        .filter((each) => fits(each.reader, each.role, each.vectors.filter((_, i) => i % 2 === 0)))
        .map((each) => ({ label: `${each.reader} at ${each.role} reads ${each.writer.name} (${SIDE_NAMES[each.side]})`, act: show(each.id, each.reader) }));
    const nodes = new Map(ORDERS.total.flatMap((each) => [[each.reader, each.role], [each.writer.name, each.role]].map(([name, role]) => [`${name}@${role}`, [name, role]])));
    return [...nodes].filter(([, [name, role]]) => fits(name, role)).map(([id, [name, role]]) => ({ label: `${name} at ${role}`, act: show(id, name) }));
  };

  // A connection's two ends are pinned together.
  function pinPicked() {
    const picked = State.get("pick");
    const connection = CONNECTION.get(picked);
    if (connection) pins.toggle(`${connection.writer.name}@${connection.role}`, `${connection.reader}@${connection.role}`);
    else if (picked) pins.toggle(picked);
  }

  function startPins() {
    const parts = (id) => [id.slice(0, id.indexOf("@")), id.slice(id.indexOf("@") + 1)];
    pins = Subgraph.start({
      key: "kept",
      place: byId("circuit-pins"),
      of: () => null,
      view: {
        known: (id) => CONNECTIONS.some((each) => [each.reader, each.writer.name].some((name) => `${name}@${each.role}` === id)),
        words: (id) => parts(id).join(" at "),
        level: (id) => writerOf(parts(id)[0]).layer + (/^mlp/.test(id) ? 0.5 : 0),
        order: (id) => DATA.roles.indexOf(parts(id)[1]),
        edges: () => [
          ...CONNECTIONS.map((each) => ({ from: `${each.writer.name}@${each.role}`, to: `${each.reader}@${each.role}`, side: each.side, weight: each.total })),
          ...MOVES.map((each) => ({ from: `${each.name}@${each.src}`, to: `${each.name}@${each.dest}`, side: "move", weight: 0 })),
        ],
        weight: short,
        where: "this page",
        show: (id) => Circuit.pick(id),
      },
    });
  }

  function show(cy) {
    const all = pins.pinned();
    cy.nodes().forEach((node) => void node.toggleClass("pinned", all.has(node.id())));
  }

  function start(cy) {
    startPins();
    State.on(["kept"], () => show(cy));
    Search.start(byId("circuit-find"), byId("circuit-found"), found(cy));
  }

  return { start, show, pinPicked, toggle: (...ids) => pins.toggle(...ids), isPinned: (id) => pins?.pinned().has(id) || false };
})();

// What the pointer is on in the circuit: lit with all that touches it, the rest dimmed, and told in a few words.
const Hover = (() => {
  const ofConnection = (connection) => [
    el(
      "b",
      {},
      `${connection.writer.name} → ${connection.reader} at ${connection.role}, ${SIDE_NAMES[connection.side]}`,
    ),
    `total weight ${short(connection.total)}, mean ${short(connection.weight)}`,
    connection.share !== null && `${percent(connection.share, 1)} of ${DATA.written} to that side (median)`,
    `${count(connection.prompts)} of ${plural(DATA.n_prompts, "prompt")} (${percent(connection.prompts, DATA.n_prompts)})`,
  ];

  const ofMove = (move) => [
    el("b", {}, `${move.name} reads ${move.src}, writes ${move.dest}`),
    `${plural(move.count, "firing")} in ${count(move.prompts)} of ${plural(DATA.n_prompts, "prompt")}`,
    `attention ${percent(move.pattern, 1)}, mean |S| ${short(move.size)}`,
  ];

  function ofNode(id) {
    const cut = id.indexOf("@");
    const [name, role] = [id.slice(0, cut), id.slice(cut + 1)];
    const touching = (key) => CONNECTIONS.filter((each) => each.role === role && key(each) === name);
    const [reads, writes] = [touching((each) => each.reader), touching((each) => each.writer.name)];
    const weight = (list) => short(list.reduce((sum, each) => sum + each.total, 0));
    const head = HEAD.get(name);
    return [
      el("b", {}, `${name} at ${role}${isRoot(name, role) ? ", a root" : ""}`),
      head && `${plural(head.firings, "firing")} in ${count(head.prompts)} of ${plural(DATA.n_prompts, "prompt")}`,
      reads.length > 0 && `reads ${plural(reads.length, "connection")}, total weight ${weight(reads)}`,
      writes.length > 0 && `read by ${plural(writes.length, "connection")}, total weight ${weight(writes)}`,
    ];
  }

  // Beside the pointer, on the side where there is room.
  function beside(tip, left, top) {
    const frame = tip.parentElement;
    const aside = left + 14 + tip.offsetWidth > frame.clientWidth ? left - 14 - tip.offsetWidth : left + 14;
    const below = top + 16 + tip.offsetHeight > frame.clientHeight ? top - 10 - tip.offsetHeight : top + 16;
    tip.style.left = `${Math.max(4, Math.min(aside, frame.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, below)}px`;
  }

  function start(cy, { stage, tip, moveOf }) {
    const clear = () => {
      if (tip.hidden) return;
      cy.elements().removeClass("lit dimmed");
      tip.hidden = true;
      stage.style.cursor = "";
    };
    const move = ({ x, y }) => beside(tip, stage.offsetLeft + x, stage.offsetTop + y);
    cy.on("mouseover", "node.head, node.other, edge", ({ target, renderedPosition }) => {
      const near = target.isNode() ? target.closedNeighborhood() : target.union(target.connectedNodes());
      cy.batch(() => {
        cy.elements().removeClass("lit dimmed");
        cy.elements().not(".band").not(near).addClass("dimmed");
        near.addClass("lit");
      });
      const moved = moveOf(target.id());
      put(
        tip,
        (target.isNode() ? ofNode(target.id()) : moved ? ofMove(moved) : ofConnection(CONNECTION.get(target.id())))
          .filter(Boolean)
          .map((line) => el("p", {}, line)),
      );
      tip.hidden = false;
      move(renderedPosition);
      stage.style.cursor = moved ? "" : "pointer";
    });
    cy.on("mousemove", ({ renderedPosition }) => !tip.hidden && move(renderedPosition));
    cy.on("mouseout", clear);
    cy.on("viewport", clear);
    stage.addEventListener("mouseleave", clear);
    return clear;
  }

  return { start, beside };
})();

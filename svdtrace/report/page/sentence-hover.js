// What the pointer is on in the circuit of one sentence: lit with all that touches it, the rest dimmed, and told in a
// few words.
const SentenceHover = (() => {
  const at = (prompt, token) => `at “${visible(prompt.strings[token])}” (${roleOf(prompt, token) === "other" ? token : roleOf(prompt, token)})`;

  function ofLine(prompt, { firing, edge }) {
    const known = Cards.of(prompt, firing)?.writers.find((each) => each.name === edge.writer.name && each.side === edge.side && each.token === writtenAt(firing, edge));
    const role = roleOf(prompt, firing[edge.side]);
    const counted = CONNECTION.get(`${edge.writer.name}:${firing.name}@${role}/${edge.side}`);
    return [
      el("b", {}, `${edge.writer.name} → ${firing.name} ${at(prompt, writtenAt(firing, edge))}, ${SIDE_NAMES[edge.side]}`),
      `weight ${Cards.weight(edge.weight)}`,
      typeof known?.share === "number" && `${Cards.share(known.share)} of ${DATA.written} to that side`,
      counted && DATA.n_prompts > 1 && `between these heads ${role === "other" ? "at any other token" : `at ${role}`} in ${count(counted.prompts)} of ${plural(DATA.n_prompts, "prompt")} (${percent(counted.prompts, DATA.n_prompts)})`,
    ];
  }

  function ofNode(prompt, node, drawn) {
    const sum = (lines) => Cards.weight(lines.reduce((total, each) => total + each.edge.weight, 0));
    const [reads, writes] = [drawn.filter((each) => each.to === node), drawn.filter((each) => each.from === node)];
    const head = HEAD.get(node.name);
    return [
      el("b", {}, `${node.name} ${at(prompt, node.token)}`),
      ...node.firings.map((firing) => `looks ${at(prompt, firing.src)}: ${Cards.share(firing.pattern)}`).slice(0, 3),
      reads.length > 0 && `reads ${plural(reads.length, "line")} drawn, weight ${sum(reads)}`,
      writes.length > 0 && `read by ${plural(writes.length, "line")} drawn, weight ${sum(writes)}`,
      head && DATA.n_prompts > 1 && `fires in ${count(head.prompts)} of ${plural(DATA.n_prompts, "prompt")} (${percent(head.prompts, DATA.n_prompts)})`,
    ];
  }

  function start(stage, tip, seen) {
    const frame = tip.parentElement;
    let lit = null;
    const clear = () => {
      stage.classList.remove("pointed");
      for (const each of stage.querySelectorAll(".lit")) each.classList.remove("lit");
      tip.hidden = true;
      lit = null;
    };
    function light(target) {
      const { spot: node, line } = target.dataset;
      const touching = line || target.dataset.effect ? [target] : [...stage.querySelectorAll(".way")].filter(({ dataset }) => dataset.from === node || dataset.to === node);
      const ends = new Set([node, ...touching.flatMap(({ dataset }) => [dataset.from, dataset.to])]);
      for (const each of [target, ...touching]) each.classList.add("lit");
      for (const each of stage.querySelectorAll(".spot")) each.classList.toggle("lit", ends.has(each.dataset.spot));
      stage.classList.add("pointed");
    }
    function told(target) {
      const { prompt, nodes, lines } = seen();
      const { spot: node, line, effect, from } = target.dataset;
      if (effect) return [el("b", {}, `${nodes.get(from).name} → output`), `direct effect ${short(Number(effect))}`];
      return line ? ofLine(prompt, lines.find(({ id }) => id === line)) : ofNode(prompt, nodes.get(node), lines);
    }
    stage.addEventListener("pointermove", (event) => {
      const target = event.target.closest(".spot, .way");
      if (target !== lit) {
        clear();
        if (!target || event.buttons) return;
        lit = target;
        light(target);
        put(tip, told(target).filter(Boolean).map((line) => el("p", {}, line)));
        tip.hidden = false;
      }
      if (!lit) return;
      const box = frame.getBoundingClientRect();
      Hover.beside(tip, event.clientX - box.left, event.clientY - box.top);
    });
    stage.addEventListener("pointerleave", clear);
    return clear;
  }

  return { start };
})();

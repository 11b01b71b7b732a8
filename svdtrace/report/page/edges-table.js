// All connections as a table: filtered by words, sorted by a column, a page at a time.
const EdgesTable = (() => {
  const NUMBER = (name) => (row) => row[name] ?? -Infinity;
  const COLUMNS = [
    {
      key: "writer",
      label: "Writer",
      value: (row) => row.writer.layer * 1000 + row.writer.order + RANK[row.writer.kind],
      show: (row) => row.writer.name,
      text: true,
    },
    {
      key: "reader",
      label: "Reader",
      value: (row) => row.layer * 1000 + row.head,
      show: (row) => row.reader,
      text: true,
    },
    { key: "role", label: "Token", value: (row) => row.role, show: (row) => row.role, text: true },
    {
      key: "side",
      label: "Side",
      value: (row) => row.side,
      show: (row) => el("span", { class: `tag ${row.side}` }, row.side),
      text: true,
    },
    { key: "prompts", label: "Prompts", value: NUMBER("prompts"), show: (row) => count(row.prompts) },
    { key: "count", label: "Edges", value: NUMBER("count"), show: (row) => count(row.count), wide: true },
    { key: "weight", label: "Mean weight", value: NUMBER("weight"), show: (row) => short(row.weight), wide: true },
    { key: "total", label: "Total", value: NUMBER("total"), show: (row) => short(row.total) },
    {
      key: "share",
      label: "Share",
      value: NUMBER("share"),
      show: (row) => (row.share === null ? "–" : percent(row.share, 1)),
      wide: true,
    },
    ...EVIDENCE.filter(({ key }) => key in DATA.connections).map(({ key, label, name, show }) => ({
      key,
      label,
      title: name,
      value: NUMBER(key),
      show: (row) => show(row[key]),
      wide: true,
    })),
    {
      key: "vectors",
      label: "Vectors in most slices",
      value: (row) => row.vectors[0] ?? -1,
      show: (row) => row.vectors.filter((_, i) => i % 2 === 0).join(", "),
      wide: true,
      text: true,
    },
  ];

  function sorted() {
    const words = State.get("filter").toLowerCase().split(/\s+/).filter(Boolean);
    const rows = CONNECTIONS.filter((row) => {
      const cells = [row.writer.name, row.reader, row.role, row.side, row.id].map((cell) => cell.toLowerCase());
      return words.every((word) => cells.includes(word) || cells.slice(0, 4).some((cell) => cell.startsWith(word)));
    });
    const key = State.get("sort").replace(/^-/, "");
    const sign = State.get("sort").startsWith("-") ? -1 : 1;
    const { value } = COLUMNS.find((column) => column.key === key) || COLUMNS.find((column) => column.key === "total");
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return rows.sort((a, b) => sign * compare(value(a), value(b)) || a.index - b.index);
  }

  function sortBy(column) {
    const now = State.get("sort");
    const first = column.text ? column.key : `-${column.key}`;
    const other = column.text ? `-${column.key}` : column.key;
    State.set({ sort: now === first ? other : first, page: 1 });
  }

  function headCell(column) {
    const now = State.get("sort");
    const order = now === column.key ? "ascending" : now === `-${column.key}` ? "descending" : "none";
    const arrow = { ascending: " ↑", descending: " ↓", none: "" }[order];
    return el(
      "th",
      { scope: "col", "aria-sort": order, class: classes(column), title: column.title },
      button([column.label, el("span", { "aria-hidden": "true" }, arrow)], () => sortBy(column), {
        "data-key": column.key,
      }),
    );
  }

  const classes = (column) => [column.text ? "" : "number", column.wide ? "wide" : ""].join(" ").trim() || null;

  function show(row) {
    go("circuit", { pick: row.id });
  }

  function bodyRow(row) {
    const cells = COLUMNS.map((column, i) =>
      i === 0
        ? el(
            "th",
            { scope: "row" },
            button(column.show(row), () => show(row), {
              title: "Show in the circuit",
              "data-key": row.id,
              "aria-label": `${row.id}: show in the circuit`,
            }),
          )
        : el("td", { class: classes(column) }, column.show(row)),
    );
    return el("tr", { class: row.id === State.get("pick") ? "picked" : null }, cells);
  }

  function draw() {
    const rows = sorted();
    const size = State.number("rows", 10, 500);
    const pages = Math.max(1, Math.ceil(rows.length / size));
    const page = Math.round(State.number("page", 1, pages));
    const first = (page - 1) * size;
    put(byId("edges-head"), el("tr", {}, COLUMNS.map(headCell)));
    put(byId("edges-body"), rows.slice(first, first + size).map(bodyRow));
    byId("edges-count").textContent = rows.length
      ? `${count(first + 1)} to ${count(Math.min(first + size, rows.length))} of ${plural(rows.length, "connection")}`
      : "no connection fits the filter";
    byId("edges-page").textContent = `page ${count(page)} of ${count(pages)}`;
    byId("edges-previous").disabled = page <= 1;
    byId("edges-next").disabled = page >= pages;
  }

  // All rows that pass the filter, in their order, with their numbers as the page has them.
  const whole = () => [
    [...COLUMNS.map(({ key }) => key)],
    ...sorted().map((row) => COLUMNS.map(({ key }) => (key === "writer" ? row.writer.name : key === "vectors" ? row.vectors.filter((_, i) => i % 2 === 0).join(" ") : row[key]))),
  ];

  function turn(by) {
    State.set({ page: State.number("page", 1, Infinity) + by });
  }

  return {
    start() {
      byId("edges-previous").addEventListener("click", () => turn(-1));
      byId("edges-next").addEventListener("click", () => turn(1));
      byId("edges-save").append(Saving.table(whole, () => "edges"));
      State.on(["filter", "sort", "page", "rows", "pick"], draw);
      draw();
    },
  };
})();

// What is seen, to take along: a drawing as SVG whose text stays text, as PNG, or on paper; a table as CSV; a view as a
// link. Nothing leaves the page but into a file of its reader's.
const Saving = (() => {
  const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-opacity", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];
  const LARGEST = 8192;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function keep(content, name, type) {
    const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    const link = el("a", { href: address, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  // A whole file of SVG elements, on the page's ground; what they look like stands in themselves.
  function file(title, [x, y, width, height], size, content) {
    const drawing = svg("svg", { xmlns: SVG, viewBox: [x, y, width, height].join(" "), width: size[0], height: size[1] });
    drawing.append(svg("title", {}, title), svg("desc", {}, `svdtrace, ${State.hash()}`), svg("rect", { x, y, width, height, fill: colour("panel") }), ...content);
    return new XMLSerializer().serializeToString(drawing);
  }

  // A drawing of the page: its style sheet's looks become attributes.
  function ofSvg(drawing, title) {
    const copy = drawing.cloneNode(true);
    const [from, to] = [drawing, copy].map((each) => [...each.querySelectorAll("*")]);
    from.forEach((each, i) => {
      const css = getComputedStyle(each);
      for (const name of each.matches("g, title, desc, svg") ? ["opacity"] : LOOKS) to[i].setAttribute(name, css.getPropertyValue(name));
      if (each.matches("text, tspan")) to[i].setAttribute("xml:space", "preserve");
      for (const name of ["class", "data-spot", "data-line", "data-from", "data-to", "data-effect"]) to[i].removeAttribute(name);
    });
    from.forEach((each, i) => {
      if (each.matches(".hit, title")) to[i].remove();
    });
    const { x, y, width, height } = drawing.viewBox.baseVal;
    return file(title, [x, y, width, height], [width, height], [...copy.childNodes]);
  }

  const address = (xml) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(xml)}`;

  async function png(xml, name) {
    const image = new Image();
    image.src = address(xml);
    await image.decode();
    const scale = Math.min(2, LARGEST / Math.max(image.width, image.height));
    const canvas = el("canvas", { width: Math.round(scale * image.width), height: Math.round(scale * image.height) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    keep(await new Promise((done) => canvas.toBlob(done, "image/png")), name, "image/png");
  }

  // The browser's own print, of one section; it knows how to make a PDF of it.
  function paper(section) {
    const root = document.documentElement;
    section.classList.add("printed-alone");
    root.classList.add("alone");
    addEventListener(
      "afterprint",
      () => {
        section.classList.remove("printed-alone");
        root.classList.remove("alone");
      },
      { once: true },
    );
    print();
  }

  // A file's name from what a reader called something, which may hold anything.
  const named = (text, ending) => `svdtrace-${text.replace(/[^\p{L}\p{N}.]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "view"}.${ending}`;

  async function copyLink(control) {
    const link = State.link();
    let copied = true;
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      // Where pages may not write to the clipboard, the old way often may.
      const field = el("textarea", { class: "hidden" });
      field.value = link;
      control.after(field);
      field.select();
      copied = document.execCommand("copy");
      field.remove();
      control.focus();
    }
    const before = control.textContent;
    control.textContent = copied ? "Copied" : "Copy it from the address bar";
    setTimeout(() => {
      control.textContent = before;
    }, 1500);
  }

  // `make()`: the SVG of what is seen; `name()`: what it is called.
  function buttons(make, name) {
    const one = (label, what, act) => button(label, act, { "data-key": `save ${label}`, "aria-label": what });
    return el(
      "span",
      { class: "save", role: "group", "aria-label": "Save what is seen" },
      one("SVG", "Save as SVG", () => keep(make(), named(name(), "svg"), "image/svg+xml")),
      one("PNG", "Save as PNG", () => png(make(), named(name(), "png"))),
      one("PDF", "Print, or save as PDF", ({ currentTarget }) => paper(currentTarget.closest("section"))),
      one("Link", "Copy a link to what is seen", ({ currentTarget }) => copyLink(currentTarget)),
    );
  }

  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const csv = (rows) => rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");

  // `rows()`: titles first.
  const table = (rows, name) => button("CSV", () => keep(csv(rows()), named(name(), "csv"), "text/csv"), { class: "csv", "data-key": `csv ${name()}`, "aria-label": `Save as CSV: ${name()}` });

  // What stands in a table of the page.
  const written = (element) => [...element.rows].map((row) => [...row.cells].map((each) => each.textContent.trim()));

  return { file, ofSvg, address, buttons, table, written, colour };
})();

// A search field with its finds below it: Enter takes the first, arrows walk, Escape leaves.
const Search = (() => {
  const SHOWN = 12;

  // What a query's words ask for: heads, singular vectors (`v3`), and text of tokens and roles.
  function terms(query) {
    return query
      .trim()
      .toLowerCase()
      .split(/\s+/)
      .filter(Boolean)
      .map((word) => {
        const vector = /^(?:v|sv)(\d+)$/.exec(word);
        if (vector) return { vector: Number(vector[1]) };
        return /^\d+\.\d*$|^(mlp|attn_bias)\.\d*$/.test(word) ? { head: word } : { text: word };
      });
  }

  // `find(terms)`: finds, each a label and what it does.
  function start(input, list, find) {
    const items = () => [...list.querySelectorAll("button")];
    const close = () => {
      list.hidden = true;
    };
    function show() {
      const asked = terms(input.value);
      const finds = asked.length ? find(asked) : [];
      const take = (act) => () => {
        close();
        act();
      };
      put(
        list,
        finds.slice(0, SHOWN).map(({ label, act }) => el("li", {}, button(label, take(act), { class: "line" }))),
        asked.length > 0 && finds.length === 0 && el("li", { class: "note" }, "Nothing of this kind"),
        finds.length > SHOWN && el("li", { class: "note" }, `and ${count(finds.length - SHOWN)} more`),
      );
      list.hidden = asked.length === 0;
    }
    input.addEventListener("input", show);
    input.addEventListener("focus", show);
    input.parentElement.addEventListener("keydown", (event) => {
      const all = items();
      const at = all.indexOf(document.activeElement);
      if (event.key === "Escape") {
        close();
        input.focus();
        close();
      } else if (event.key === "Enter" && document.activeElement === input) all[0]?.click();
      else if (event.key === "ArrowDown") (all[at + 1] || all[at])?.focus();
      else if (event.key === "ArrowUp") (all[at - 1] || input).focus();
      else return;
      event.preventDefault();
    });
    input.parentElement.addEventListener("focusout", (event) => {
      if (!input.parentElement.contains(event.relatedTarget)) close();
    });
  }

  return { start };
})();

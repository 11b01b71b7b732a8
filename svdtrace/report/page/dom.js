// Elements are made here and nowhere else; text always becomes a text node, so that no token can be markup.
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const button = (label, onclick, attributes) => el("button", { type: "button", onclick, ...attributes }, label);

// Calls when an element has got another width, and before a print, where the paper's width comes too late for an observer.
function onWidth(element, draw) {
  let width = element.clientWidth;
  const look = () => {
    if (Math.abs(element.clientWidth - width) < 2) return;
    width = element.clientWidth;
    draw();
  };
  new ResizeObserver(look).observe(element);
  addEventListener("paper", look);
}

addEventListener("beforeprint", () => {
  document.documentElement.classList.add("paper");
  dispatchEvent(new Event("paper"));
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("paper");
  dispatchEvent(new Event("paper"));
});

// Replaces what an element holds; the focus returns to the child with the same data-key, if it was inside.
function put(element, ...children) {
  const active = document.activeElement;
  const key = active && element.contains(active) ? active.dataset.key : null;
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  if (key) [...element.querySelectorAll("[data-key]")].find((child) => child.dataset.key === key)?.focus();
}

// A name in one piece; where several are joined by commas, lines break between them alone.
const whole = (names) =>
  names.split(",").map((name, i, all) => el("span", { class: "whole" }, i < all.length - 1 ? `${name},` : name));

const count = (value) => value.toLocaleString("en-US");
const percent = (part, whole) => `${whole ? Math.round((100 * part) / whole) : 0}%`;
const plural = (value, noun, many) => `${count(value)} ${value === 1 ? noun : many || `${noun}s`}`;

function short(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return count(Math.round(value));
  return size >= 0.01 ? Number(value.toPrecision(3)).toString() : value.toExponential(1);
}

// A token as it stands in the text, with what cannot be seen made visible.
const visible = (text) =>
  text
    .replace(/\n/g, "⏎")
    .replace(/\t/g, "⇥")
    .replace(/[\u2028\u2029]/g, "⏎");

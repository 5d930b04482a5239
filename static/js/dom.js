// Writing to the page: only what differs, so that focus, selection and screen readers are left alone.
const SPRITE = document.documentElement.dataset.sprite;

export const field = (root, name) => root.querySelector(`[data-f="${name}"]`);
export const action = (root, name) => root.querySelector(`[data-a="${name}"]`);

export function text(node, value) {
  if (node && node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (node && node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node && node.hidden === visible) node.hidden = !visible;
}

export function state(node, name) {
  if (node && node.dataset.state !== name) node.dataset.state = name;
}

export function stateIcon(node, look, { label, icon }) {
  state(node, look);
  attribute(node, "aria-label", label);
  if (node.title) node.title = label;
  attribute(node.querySelector("use"), "href", `${SPRITE}#${icon}`);
}

export function bar(node, percent) {
  attribute(node, "aria-valuenow", percent);
  attribute(node, "aria-valuetext", `${percent}%`);
  attribute(node.querySelector("rect"), "width", `${percent}%`);
}

export function bootstrap() {
  return JSON.parse(document.getElementById("bootstrap").textContent);
}

const announcements = [];
let announcing = null;

// Changes of state reach screen readers together, every four seconds; many of them as a number.
export function announce(sentence) {
  announcements.push(sentence);
  announcing ??= setTimeout(() => {
    const said = announcements.splice(0);
    announcing = null;
    document.getElementById("announcer").textContent = said.length > 3 ? `${said.length} jobs changed state.` : said.join(" ");
  }, 4000);
}

export function flash(level, sentence, { id = null, link = null, href = null } = {}) {
  if (id) document.querySelector(`#flashes [data-id="${id}"]`)?.remove();
  const node = document.getElementById("flash").content.firstElementChild.cloneNode(true);
  node.dataset.level = level;
  if (id) node.dataset.id = id;
  text(node.querySelector("p"), sentence);
  if (link) {
    const anchor = node.querySelector("[data-flash-link]");
    anchor.hidden = false;
    anchor.href = href;
    anchor.textContent = link;
  }
  document.getElementById("flashes").append(node);
  if (level === "success") setTimeout(() => node.remove(), 8000);
  announce(sentence);
}

export function unflash(id) {
  document.querySelector(`#flashes [data-id="${id}"]`)?.remove();
}

// What every page has: confirmations, forms without a reload, menus beside their buttons, shortcuts, relative times.
import { everySecond, secondsSince } from "./clock.js";
import { flash, text } from "./dom.js";
import { ago } from "./wording.js";

document.documentElement.classList.add("has-js");

// ---- menus: a popover stands in the middle of the screen unless it is placed
document.addEventListener("beforetoggle", (event) => {
  const menu = event.target;
  const opener = document.querySelector(`[popovertarget="${menu.id}"]`);
  if (event.newState !== "open" || !menu.matches(".menu-list") || !opener) return;
  const box = opener.getBoundingClientRect();
  const below = box.bottom + 240 < innerHeight || box.top < 240;
  Object.assign(menu.style, {
    margin: "0", inset: "auto", right: `${Math.max(8, document.documentElement.clientWidth - box.right)}px`,
    top: below ? `${box.bottom + 4}px` : "auto", bottom: below ? "auto" : `${innerHeight - box.top + 4}px`,
  });
}, true);
addEventListener("scroll", () => document.querySelector(".menu-list:popover-open")?.hidePopover(), { capture: true, passive: true });

// ---- forms that change something
function confirmed(form) {
  const dialog = document.getElementById("confirm");
  text(document.getElementById("confirm-text"), form.dataset.confirm);
  text(document.getElementById("confirm-yes"), form.dataset.confirmYes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function send(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } });
    if (answer.status === 401) {
      flash("error", "You are signed out.", { link: "Sign in", href: `/ui/login?next=${encodeURIComponent(location.pathname)}` });
    } else if (answer.headers.get("Content-Type")?.startsWith("application/json")) {
      const { level, text: words, to } = await answer.json();
      if (form.dataset.a === "delete" && answer.ok && location.pathname !== to) location.assign(to);
      else flash(level, words);
    } else {
      flash("error", answer.status === 404 ? "That is not there any more." : "That did not work. Reload the page and try again.");
    }
  } catch {
    flash("error", "The server did not answer. Nothing was changed; try again.");
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-a]")) return;
  event.preventDefault();
  form.closest(".menu-list")?.hidePopover();
  if (!form.dataset.confirm || (await confirmed(form))) await send(form);
});

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  copy.closest(".menu-list")?.hidePopover();
  try {
    await navigator.clipboard.writeText(copy.dataset.copy);
    flash("success", "The id was copied.");
  } catch {
    flash("info", copy.dataset.copy);
  }
});

// ---- shortcuts: single keys, off in fields and by choice
const KEYS = "single-key-shortcuts";
const toggle = document.getElementById("keys-on");
let prefix = "";

function step(direction) {
  const rows = [...document.querySelectorAll("#rows > li .row-title a, #lanes .card")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (direction > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + direction))].focus();
}

function press(key) {
  if (prefix === "g" && key === "w") return location.assign("/ui");
  prefix = key === "g" ? "g" : "";
  if (key === "/") return document.getElementById("filter")?.focus();
  if (key === "j") return step(1);
  if (key === "k") return step(-1);
  if (key === "n") return document.getElementById("name") ? document.getElementById("name").focus() : location.assign("/ui#create");
  if (key === "?") return document.getElementById("shortcuts").showModal();
}

document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, select, textarea, dialog, [contenteditable]");
  if (busy || event.ctrlKey || event.metaKey || event.altKey || !toggle?.checked) return;
  if (event.key === "/") event.preventDefault();
  press(event.key);
});
document.getElementById("help")?.addEventListener("click", () => document.getElementById("shortcuts").showModal());
if (toggle) {
  toggle.checked = localStorage.getItem(KEYS) !== "off";
  toggle.addEventListener("change", () => localStorage.setItem(KEYS, toggle.checked ? "on" : "off"));
}

// ---- relative times
everySecond(() => document.querySelectorAll("time[datetime]").forEach((node) => text(node, ago(secondsSince(node.dateTime)))));

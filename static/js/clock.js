// Server time: what durations are counted in. One timer of a second for the whole page.
let offset = Date.parse(document.documentElement.dataset.now) - Date.now();
const listeners = new Set();

export const now = () => Date.now() + offset;
export const secondsSince = (text, end = null) => ((end ? Date.parse(end) : now()) - Date.parse(text)) / 1000;
export const secondsUntil = (text) => Math.max(0, (Date.parse(text) - now()) / 1000);
export const everySecond = (listener) => listeners.add(listener);
export function setNow(text) { offset = Date.parse(text) - Date.now(); }

setInterval(() => {
  if (!document.hidden) listeners.forEach((listener) => listener());
}, 1000);

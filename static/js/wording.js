// How numbers, durations and times are written: the same rules as dashboard/wording.py.
export const UNKNOWN = "not known yet";
const MINUTE = 60, HOUR = 3600, DAY = 86400;
const two = (n) => String(n).padStart(2, "0");

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m ${two(s % MINUTE)}s`;
  if (s < DAY) return `${Math.floor(s / HOUR)}h ${two(Math.floor((s % HOUR) / MINUTE))}m`;
  return `${Math.floor(s / DAY)}d ${Math.floor((s % DAY) / HOUR)}h`;
}

export function estimate(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return UNKNOWN;
  const step = seconds < MINUTE ? 5 : seconds < 10 * MINUTE ? 15 : MINUTE;
  return `about ${duration(Math.max(step, Math.ceil(seconds / step) * step))}`;
}

export function ago(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  for (const [unit, letter] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "m"]]) {
    if (s >= unit) return `${Math.floor(s / unit)}${letter} ago`;
  }
  return s >= 5 ? `${s}s ago` : "just now";
}

export const percent = (fraction) => Math.max(0, Math.min(100, Math.floor(fraction * 100 + 1e-9)));
export const count = (n) => (n === null ? "–" : n.toLocaleString("en-US"));
export const rate = (tilesPerSecond) =>
  tilesPerSecond < 10 ? `${tilesPerSecond.toFixed(1)} tiles/s` : `${count(Math.round(tilesPerSecond))} tiles/s`;
export const plural = (n, noun) => `${count(n)} ${n === 1 ? noun : noun + (noun.endsWith("ch") ? "es" : "s")}`;
export const exact = (text) => `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;

// Tiles a second, measured over the last seconds of what was seen; the mean since the start until enough was seen.
import { secondsSince } from "./clock.js";

const WINDOW_MS = 20000, MIN_SECONDS = 2;
const samples = new Map();

export function observe(job) {
  const key = `${job.id}/${job.attempt}`;
  if (job.state !== "RUNNING") return samples.delete(key);
  const seen = samples.get(key) || [];
  if (!seen.length || seen.at(-1).tiles !== job.tiles_processed) seen.push({ at: Date.now(), tiles: job.tiles_processed });
  while (seen.length > 2 && seen[0].at < Date.now() - WINDOW_MS) seen.shift();
  samples.set(key, seen);
}

export function jobRate(job) {
  const seen = samples.get(`${job.id}/${job.attempt}`) || [];
  if (seen.length > 1) {
    const seconds = (Date.now() - seen[0].at) / 1000, tiles = seen.at(-1).tiles - seen[0].tiles;
    if (seconds >= MIN_SECONDS && tiles > 0) return tiles / seconds;
  }
  return job.attempt === 1 ? meanRate(job.tiles_processed, job.started_at, job.finished_at) : null;
}

export function meanRate(tiles, startedAt, finishedAt) {
  const seconds = startedAt ? secondsSince(startedAt, finishedAt) : 0;
  return tiles && seconds >= MIN_SECONDS ? tiles / seconds : null;
}

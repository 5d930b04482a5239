// Tiles a second: as the scheduler measures them for running jobs, and the mean since the start.
import { secondsSince, secondsUntil } from "./clock.js";
import { estimate } from "./wording.js";

const MIN_SECONDS = 2;

export const liveRate = (jobs) => jobs.filter((job) => job.state === "RUNNING").reduce((sum, job) => sum + (job.tiles_per_s || 0), 0) || null;

export function meanRate(tiles, startedAt, finishedAt) {
  const seconds = startedAt ? secondsSince(startedAt, finishedAt) : 0;
  return tiles && seconds >= MIN_SECONDS ? tiles / seconds : null;
}

export const startsIn = (start) => (start === null ? "" : `, in ${estimate(secondsUntil(start))}`);

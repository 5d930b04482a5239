// State -> look, by the tables that the server sends (dashboard/presenters.py holds the same rule).
import { bootstrap } from "./dom.js";

const { looks, waiting, states, statuses } = bootstrap();

export const lookOf = (name) => looks[name];
export const isFinished = (workflow) => ["SUCCEEDED", "FAILED", "CANCELLED"].includes(workflow.status);
export const workflowLook = (workflow) => (workflow.paused && !isFinished(workflow) ? "paused" : statuses[workflow.status]);
export const isUnfinished = (job) => job.state === "PENDING" || job.state === "RUNNING";
export const isRetryable = (job) => job.state === "FAILED" || job.state === "CANCELLED";

export function jobLook(job) {
  if (job.state === "CANCELLED") return (job.error || "cancelled").startsWith("cancelled") ? "cancelled" : "skipped";
  if (job.state !== "PENDING") return states[job.state];
  const reason = job.waiting_reason || "";
  const start = Object.keys(waiting).find((words) => reason.startsWith(words));
  return start ? waiting[start] : "queued";
}

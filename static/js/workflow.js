// The workflow page: job cards, lanes, summary and title bind to the live body; lists of events and files come as markup.
import "./shell.js";
import { everySecond, secondsSince, secondsUntil } from "./clock.js";
import { action, announce, attribute, bar, bootstrap, field, flash, show, state, stateIcon, text } from "./dom.js";
import { isFinished, isRetryable, isUnfinished, jobLook, lookOf, workflowLook } from "./looks.js";
import { liveRate, meanRate, startsIn } from "./pace.js";
import { Live } from "./socket.js";
import { UNKNOWN, ago, count, duration, estimate, exact, percent, plural, rate } from "./wording.js";

const { topic } = bootstrap();
const id = topic.slice("workflow:".length);
const LONG_BRANCH = 30;
const STACK = ["succeeded", "running", "failed", "cancelled", "queued"];
const cards = new Map([...document.querySelectorAll(".card")].map((node) => [node.dataset.job, node]));
const head = document.getElementById("head"), summary = document.getElementById("summary");
let body = null;
let jobs = new Map();

// ---- cards
function footOf(job) {
  if (job.state === "PENDING") return job.waiting_reason || "waiting";
  if (job.state === "CANCELLED") return job.error || "cancelled";
  if (job.state === "RUNNING") return runningFoot(job);
  if (!job.started_at) return "";
  const took = duration(secondsSince(job.started_at, job.finished_at));
  return job.state === "SUCCEEDED" ? `took ${took}` : `failed after ${took}`;
}

function runningFoot(job) {
  if (job.tiles_total === null) return "planning";
  if (job.tiles_processed === job.tiles_total) return "writing results";
  if (job.tiles_per_s === null || job.estimated_end === null) return "just started";
  return `${rate(job.tiles_per_s)} · ${estimate(secondsUntil(job.estimated_end))} left`;
}

function bindCard(node, job) {
  const look = jobLook(job), done = percent(job.progress);
  state(node, look);
  stateIcon(field(node, "icon"), look, lookOf(look));
  bar(field(node, "bar"), done);
  text(field(node, "tiles"), count(job.tiles_processed));
  text(field(node, "total"), count(job.tiles_total));
  text(field(node, "percent"), `${done}%`);
  text(field(node, "foot"), footOf(job));
  text(field(node, "attempt"), ` · attempt ${job.attempt}`);
  show(field(node, "attempt"), job.attempt > 1);
  text(field(node, "error"), job.state === "FAILED" ? job.error || "" : "");
  show(field(node, "error-box"), job.state === "FAILED" && Boolean(job.error));
  text(field(node, "warnings"), job.warnings.join(" "));
  show(field(node, "warnings"), job.warnings.length > 0);
  show(action(node, "cancel"), isUnfinished(job));
  show(action(node, "retry"), isRetryable(job));
  show(field(node, "menu"), isUnfinished(job) || isRetryable(job));
  bindResults(node, job);
}

async function fragment(path) {
  const answer = await fetch(`/ui/workflow/${id}/${path}`);
  const running = answer.headers.get("X-Running-Workflows");
  if (running !== null) text(document.querySelector('[data-nav="running"]'), count(Number(running)));
  return answer.ok && !answer.redirected ? new DOMParser().parseFromString(await answer.text(), "text/html").body : null;
}

async function bindResults(node, job) {
  const box = field(node, "results");
  if (job.state !== "SUCCEEDED") {
    delete box.dataset.loaded;
    return box.replaceChildren();
  }
  if (box.dataset.loaded) return;
  box.dataset.loaded = "yes";
  const found = await fragment(`job/${encodeURIComponent(job.job_id)}/results`).catch(() => null);
  if (found) box.replaceChildren(...found.childNodes);
}

// ---- lanes
const touched = new WeakMap();
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function bindLane(lane) {
  const inLane = [...lane.querySelectorAll(".card")].map((node) => byId(node.dataset.job));
  text(field(lane, "lane-done"), `${inLane.filter((job) => !isUnfinished(job)).length} of ${plural(inLane.length, "job")}`);
  bindCollapse(lane, inLane);
  const running = inLane.find((job) => job.state === "RUNNING");
  if (running && lane.dataset.at !== running.id) {
    lane.dataset.at = running.id;
    follow(lane.querySelector(".track-scroll"), cards.get(running.id));
  }
}

// A long branch hides what has succeeded until it is asked for.
function bindCollapse(lane, inLane) {
  const succeeded = inLane.filter((job) => job.state === "SUCCEEDED").length, button = field(lane, "collapse");
  const matters = inLane.length > LONG_BRANCH && succeeded > 0;
  show(button, matters);
  if (!matters) return;
  lane.dataset.collapsed ??= "yes";
  const collapsed = lane.dataset.collapsed === "yes";
  text(button, collapsed ? `Show ${count(succeeded)} succeeded` : `Hide ${count(succeeded)} succeeded`);
  attribute(button, "aria-expanded", String(!collapsed));
  button.onclick = () => {
    lane.dataset.collapsed = collapsed ? "no" : "yes";
    bindCollapse(lane, inLane);
  };
}

function follow(scroller, card) {
  const inUse = scroller.matches(":hover, :focus-within") || Date.now() - (touched.get(scroller) || 0) < 15000;
  if (inUse || scroller.scrollWidth <= scroller.clientWidth) return;
  const left = card.offsetLeft - scroller.offsetLeft - 48;
  scroller.scrollTo({ left, behavior: calm.matches ? "auto" : "smooth" });
}

document.querySelectorAll(".track-scroll").forEach((scroller) => {
  for (const name of ["pointerdown", "wheel", "keydown"]) scroller.addEventListener(name, () => touched.set(scroller, Date.now()), { passive: true });
});

// ---- summary
const byId = (key) => jobs.get(key);
const tilesOf = (jobs) => jobs.reduce((sum, job) => sum + job.tiles_processed, 0);
const totalOf = (jobs) => (jobs.some((job) => job.tiles_total === null) ? null : jobs.reduce((sum, job) => sum + job.tiles_total, 0));

function bindTimes() {
  const ended = isFinished(body), total = totalOf(body.jobs), tiles = tilesOf(body.jobs);
  text(field(summary, "elapsed"), body.started_at ? duration(secondsSince(body.started_at, body.finished_at)) : "not started");
  const pace = (!ended && liveRate(body.jobs)) || meanRate(tiles, body.started_at, body.finished_at);
  text(field(summary, "rate"), pace ? rate(pace) : UNKNOWN);
  text(field(summary, "left"), estimate(total !== null && pace && !body.paused ? (total - tiles) / pace : null));
  text(field(document.getElementById("queued"), "queued"),
    `${body.user_id} is number ${body.queue_position} of the waiting users; jobs start when a slot becomes free${startsIn(body.estimated_start)}.`);
  for (const job of body.jobs) if (job.state === "RUNNING") text(field(cards.get(job.id), "foot"), footOf(job));
}

function bindSummary() {
  const ended = isFinished(body), look = workflowLook(body), { label } = lookOf(look), done = percent(body.progress);
  stateIcon(field(head, "icon"), look, lookOf(look));
  state(field(summary, "status"), look);
  text(field(summary, "status"), label);
  const left = body.jobs.filter(isUnfinished).length;
  text(field(summary, "done"), String(body.jobs.length - left));
  show(field(summary, "left-box"), !ended);
  show(field(summary, "finished-box"), ended);
  if (body.finished_at) {
    const node = field(summary, "finished");
    attribute(node, "datetime", body.finished_at);
    node.title = exact(body.finished_at);
    text(node, ago(secondsSince(body.finished_at)));
  }
  text(field(summary, "rate-label"), ended ? "Mean throughput" : "Throughput");
  text(field(summary, "tiles"), count(tilesOf(body.jobs)));
  text(field(summary, "total"), count(totalOf(body.jobs)));
  bindStack(done);
  bindHead(ended, left);
  const name = body.name || "Workflow";
  document.title = `${look === "running" ? `${done}%` : label} · ${name}`;
}

function bindStack(done) {
  const node = field(summary, "bar");
  attribute(node, "aria-valuenow", done);
  attribute(node, "aria-valuetext", `${done}%`);
  const sums = Object.fromEntries(STACK.map((look) => [look, 0]));
  for (const job of body.jobs) sums[job.state === "PENDING" ? "queued" : job.state.toLowerCase()] += job.progress;
  let start = 0;
  STACK.forEach((look, i) => {
    const width = (100 * sums[look]) / body.jobs.length, rect = node.querySelectorAll("rect")[i];
    attribute(rect, "x", `${start.toFixed(3)}%`);
    attribute(rect, "width", `${width.toFixed(3)}%`);
    start += width;
  });
}

function bindHead(ended, left) {
  show(action(head, "cancel"), !ended);
  show(action(head, "delete"), ended);
  show(action(head, "pause"), !ended && !body.paused);
  show(action(head, "resume"), !ended && body.paused);
  show(action(head, "retry"), body.jobs.some(isRetryable));
  action(head, "cancel").dataset.confirm =
    `Cancel “${body.name || "Workflow"}”? ${plural(left, "unfinished job")} will not run to the end; finished tiles are kept for a re-run.`;
  show(document.getElementById("queued"), body.queue_position !== null && !ended);
}

// ---- activity
let activityTimer = null;

function refreshActivity() {
  activityTimer ??= setTimeout(async () => {
    activityTimer = null;
    const found = await fragment("activity").catch(() => null);
    if (found) document.getElementById("activity").replaceChildren(...found.childNodes);
  }, 400);
}

function tellChanges(before) {
  const old = new Map(before.jobs.map((job) => [job.id, job]));
  const changed = body.jobs.filter((job) => old.get(job.id)?.state !== job.state || old.get(job.id)?.attempt !== job.attempt);
  for (const job of changed) announce(`Job ${job.job_id}: ${lookOf(jobLook(job)).label}.`);
  if (changed.length) refreshActivity();
  if (before.status !== body.status && isFinished(body)) {
    flash(body.status === "SUCCEEDED" ? "success" : "warning", `${body.name || "The workflow"} has ended: ${lookOf(workflowLook(body)).label.toLowerCase()}.`);
  }
}

everySecond(() => body && bindTimes());

new Live({ [topic]: `/workflow/${id}` }, (_, next, before) => {
  const old = jobs;
  body = next;
  jobs = new Map(body.jobs.map((job) => [job.id, job]));
  // Entries that a delta did not touch are the same objects.
  for (const job of body.jobs) if (old.get(job.id) !== job) bindCard(cards.get(job.id), job);
  document.querySelectorAll(".lane").forEach(bindLane);
  bindSummary();
  bindTimes();
  if (before) tellChanges(before);
  else refreshActivity();
});

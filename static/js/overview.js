// The overview: rows bind in place; new ones come first on the plain first page, elsewhere a link tells of them.
import "./shell.js";
import "./create.js";
import { everySecond, secondsSince } from "./clock.js";
import { action, announce, attribute, bar, bootstrap, field, show, state, stateIcon, text } from "./dom.js";
import { isFinished, lookOf, workflowLook } from "./looks.js";
import { startsIn } from "./pace.js";
import { Live } from "./socket.js";
import { ago, count, duration, exact, percent, plural } from "./wording.js";

const PAGE_ROWS = 25;
const { user, is_staff: isStaff, takes_news: takesNews } = bootstrap();
const list = document.getElementById("rows");
const rows = new Map([...list.children].map((node) => [node.dataset.row, node]));
const newest = rows.size ? Date.parse(field(list.firstElementChild, "created").dateTime) : 0;
let workflows = [];
let queue = null;

const jobsOf = (workflow) => Object.values(workflow.job_counts).reduce((sum, n) => sum + n, 0);
const titleOf = (workflow) => workflow.name || `Workflow #${workflow.number}`;

function metaOf(workflow) {
  const parts = [`#${workflow.number}${isStaff ? ` by ${workflow.user_id}` : ""}`];
  parts.push(`${plural(jobsOf(workflow), "job")} in ${plural(workflow.branches, "branch")}`);
  if (workflow.queue_position !== null && !isFinished(workflow)) parts.push(`user queued, position ${workflow.queue_position}`);
  return parts.join(" · ");
}

function runTime(workflow) {
  if (!workflow.started_at) return isFinished(workflow) ? "not started" : "waiting";
  return duration(secondsSince(workflow.started_at, workflow.finished_at));
}

function bind(node, workflow) {
  const look = workflowLook(workflow), done = percent(workflow.progress);
  state(node, look);
  stateIcon(field(node, "icon"), look, lookOf(look));
  text(field(node, "meta"), metaOf(workflow));
  text(field(node, "tiles"), count(workflow.tiles_processed));
  text(field(node, "total"), count(workflow.tiles_total || null));
  text(field(node, "percent"), `${done}%`);
  bar(field(node, "bar"), done);
  text(field(node, "run-time"), runTime(workflow));
  show(action(node, "cancel"), !isFinished(workflow));
  show(action(node, "delete"), isFinished(workflow));
  show(action(node, "retry"), workflow.job_counts.FAILED + workflow.job_counts.CANCELLED > 0);
}

// A new row is the server's own markup, cloned; what is in it by name is filled here.
function rowFor(workflow) {
  const node = document.getElementById("row").content.firstElementChild.cloneNode(true);
  const id = workflow.workflow_id, title = titleOf(workflow);
  node.dataset.row = id;
  text(field(node, "title"), title);
  field(node, "title").title = title;
  for (const link of [field(node, "title"), action(node, "open")]) link.href = `/ui/workflow/${id}`;
  for (const name of ["retry", "cancel", "delete"]) action(node, name).action = `/ui/workflow/${id}/${name}`;
  action(node, "cancel").dataset.confirm = `Cancel “${title}”? Its unfinished jobs will not run; finished tiles are kept for a re-run.`;
  action(node, "delete").dataset.confirm = `Delete “${title}” with all its results? This cannot be undone.`;
  node.querySelector("[data-copy]").dataset.copy = id;
  node.querySelector("[popover]").id = `menu-${id}`;
  attribute(node.querySelector("[popovertarget]"), "popovertarget", `menu-${id}`);
  attribute(field(node, "menu"), "aria-label", `Actions on ${title}`);
  attribute(field(node, "bar"), "aria-label", `Progress of ${title}`);
  const created = field(node, "created");
  attribute(created, "datetime", workflow.created_at);
  created.title = exact(workflow.created_at);
  text(created, ago(secondsSince(workflow.created_at)));
  return node;
}

function takeNews(fresh) {
  if (!fresh.length) return show(document.getElementById("news"), false);
  if (!takesNews) {
    text(document.querySelector("#news a"), plural(fresh.length, "new workflow"));
    return show(document.getElementById("news"), true);
  }
  document.getElementById("blank")?.remove();
  for (const workflow of fresh.reverse()) {
    const node = rowFor(workflow);
    rows.set(workflow.workflow_id, node);
    list.prepend(node);
  }
  while (list.children.length > PAGE_ROWS) {
    rows.delete(list.lastElementChild.dataset.row);
    list.lastElementChild.remove();
  }
}

function isNew(workflow) {
  const first = list.firstElementChild && field(list.firstElementChild, "created").dateTime;
  return !rows.has(workflow.workflow_id) && Date.parse(workflow.created_at) > (takesNews && first ? Date.parse(first) : newest);
}

function showWorkflows(body, before) {
  workflows = body.results;
  takeNews(workflows.filter(isNew));
  const old = new Map((before?.results || []).map((workflow) => [workflow.workflow_id, workflow]));
  for (const workflow of workflows) {
    const node = rows.get(workflow.workflow_id);
    if (node) bind(node, workflow);
    if (old.has(workflow.workflow_id) && old.get(workflow.workflow_id).status !== workflow.status) {
      announce(`${titleOf(workflow)}: ${lookOf(workflowLook(workflow)).label}.`);
    }
    old.delete(workflow.workflow_id);
  }
  // What left the first page because of newer ones is still there; what left a shorter list was deleted.
  if (!body.next) for (const id of old.keys()) remove(id);
  const running = workflows.filter((workflow) => workflow.status === "RUNNING" && (!isStaff || workflow.user_id === user)).length;
  text(document.querySelector('[data-nav="running"]'), count(running));
  document.title = running ? `(${running}) Workflows` : "Workflows";
}

function remove(id) {
  rows.get(id)?.remove();
  rows.delete(id);
}

function showStanding() {
  const node = document.getElementById("standing"), mine = (entry) => entry.user_id === user;
  const active = queue.active.find(mine), place = queue.waiting.find(mine);
  text(field(node, "headline"), active ? "You are active" : place ? `You are number ${place.position} in the queue` : "You have no work");
  text(field(node, "detail"), active
    ? `since ${duration(secondsSince(active.since))} · ${plural(active.running, "job")} running, ${count(active.waiting)} waiting`
    : place ? `of ${plural(queue.waiting.length, "waiting user")} · ${plural(place.jobs, "job")}${startsIn(place.estimated_start)}`
      : `${queue.active.length} of ${plural(queue.max_concurrent_users, "slot")} taken`);
  text(field(node, "waiting"), `${plural(queue.waiting.length, "user")} waiting`);
  const slots = [...field(node, "slots").children];
  slots.forEach((slot, i) => attribute(slot, "data-slot", i >= queue.active.length ? "free" : mine(queue.active[i]) ? "mine" : "taken"));
}

everySecond(() => {
  for (const workflow of workflows) {
    const node = rows.get(workflow.workflow_id);
    if (node && workflow.started_at && !workflow.finished_at) text(field(node, "run-time"), runTime(workflow));
  }
  if (queue) showStanding();
});

new Live({ user: "/workflow", queue: "/queue" }, (topic, body, before) => {
  if (topic === "user") return showWorkflows(body, before);
  queue = body;
  showStanding();
});

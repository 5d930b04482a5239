// Frames of the socket applied to bodies. A snapshot replaces, a delta carries changed fields, entries of lists by name.
const NAMES = { jobs: "job_id", results: "workflow_id" };

export function applied(body, frame) {
  if (frame.t === "snap") return frame.data;
  const next = { ...body };
  for (const [key, value] of Object.entries(frame)) {
    if (key === "t" || key === "topic" || key === "seq") continue;
    next[key] = key in NAMES ? merged(body[key], value, NAMES[key]) : value;
  }
  return next;
}

function merged(entries, changes, name) {
  const byName = new Map(changes.map((change) => [change[name], change]));
  return entries.map((entry) => (byName.has(entry[name]) ? { ...entry, ...byName.get(entry[name]) } : entry));
}

// The live connection of a page: subscribes, acknowledges, finds gaps and dead links, reconnects, and polls when nothing else works.
import { everySecond, setNow } from "./clock.js";
import { flash, text, unflash } from "./dom.js";
import { applied } from "./frames.js";

const FIRST_DELAY_MS = 500, MAX_DELAY_MS = 30000, IDLE_MS = 45000, HIDDEN_MS = 60000, BANNER_MS = 1500;
const POLL_MS = 3000, POLL_HIDDEN_MS = 60000, FAILURES_BEFORE_POLL = 3;
const SIGNED_OUT = 4401, NOT_FOUND = 4404, MALFORMED = 4400;

export class Live {
  // topics: topic -> address of the matching GET. onBody(topic, body, before) runs at most once a frame of the screen.
  constructor(topics, onBody) {
    this.topics = topics;
    this.onBody = onBody;
    this.bodies = {};
    this.shown = {};
    this.failures = 0;
    this.ended = false;
    document.addEventListener("visibilitychange", () => this.visibilityChanged());
    addEventListener("online", () => this.hurry());
    addEventListener("pageshow", (event) => event.persisted && this.hurry());
    addEventListener("pagehide", () => this.leave());
    everySecond(() => this.showCountdown());
    this.connect();
  }

  connect() {
    clearTimeout(this.retryTimer);
    this.retryAt = null;
    this.leaving = false;
    this.sequence = 0;
    this.pill("wait", "Connecting");
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/ui`);
    this.socket.onopen = () => Object.keys(this.topics).forEach((topic) => this.say({ t: "sub", topic }));
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = (event) => this.closed(event.code);
    this.listen();
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Nothing heard for a while, not even the server's ping: the link is dead though nobody said so.
  listen() {
    clearTimeout(this.idleTimer);
    this.idleTimer = setTimeout(() => this.socket.close(), IDLE_MS);
  }

  hear(frame) {
    this.listen();
    if (frame.t === "ping") return setNow(frame.now);
    if (frame.seq !== this.sequence + 1 || (frame.t === "delta" && !this.bodies[frame.topic])) {
      this.sequence = frame.seq;
      return this.say({ t: "resync" });
    }
    this.sequence = frame.seq;
    this.take(frame.topic, applied(this.bodies[frame.topic], frame));
    if (frame.t === "snap") this.alive();
    this.say({ t: "ack", seq: frame.seq });
  }

  alive() {
    this.failures = 0;
    clearTimeout(this.pollTimer);
    clearTimeout(this.bannerTimer);
    this.bannerTimer = null;
    unflash("connection");
    this.pill("live", "Live");
  }

  take(topic, body) {
    this.bodies[topic] = body;
    if (this.drawing) return;
    this.drawing = true;
    // A hidden tab draws nothing by itself, but its title must go on.
    if (document.hidden) setTimeout(() => this.draw(), 1000);
    else requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawing = false;
    for (const [topic, body] of Object.entries(this.bodies)) {
      const before = this.shown[topic];
      if (before === body) continue;
      this.shown[topic] = body;
      this.onBody(topic, body, before);
    }
  }

  closed(code) {
    clearTimeout(this.idleTimer);
    if (this.leaving || this.ended) return;
    if (code === SIGNED_OUT || code === NOT_FOUND || code === MALFORMED) return this.end(code);
    this.failures += 1;
    const delay = Math.max(300, Math.random() * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** this.failures));
    this.retryAt = Date.now() + delay;
    this.retryTimer = setTimeout(() => this.connect(), delay);
    this.bannerTimer ??= setTimeout(
      () => flash("warning", "Connection lost. What you see may be out of date; trying again.", { id: "connection" }), BANNER_MS);
    this.showCountdown();
    if (this.failures >= FAILURES_BEFORE_POLL) this.pollSoon();
  }

  end(code) {
    this.ended = true;
    this.pill("off", "Offline");
    if (code === SIGNED_OUT) {
      const href = `/ui/login?next=${encodeURIComponent(location.pathname + location.search)}`;
      flash("error", "You are signed out. What you see is no longer updated.", { id: "connection", link: "Sign in", href });
    } else {
      flash("error", "This is not there any more. What you see is the last that was known.", { id: "connection", link: "All workflows", href: "/ui" });
    }
    document.querySelectorAll("[data-a] button").forEach((button) => { button.disabled = true; });
  }

  pollSoon() {
    clearTimeout(this.pollTimer);
    this.pollTimer = setTimeout(() => this.poll(), document.hidden ? POLL_HIDDEN_MS : POLL_MS);
  }

  async poll() {
    try {
      for (const [topic, address] of Object.entries(this.topics)) {
        const answer = await fetch(address, { headers: { Accept: "application/json" } });
        if (answer.status === 401) return this.end(SIGNED_OUT);
        if (answer.status === 404) return this.end(NOT_FOUND);
        if (answer.ok) this.take(topic, await answer.json());
      }
    } catch {
      // The server is away: the next round tries again.
    }
    if (this.retryAt !== null && !this.ended) this.pollSoon();
  }

  hurry() {
    if (this.ended || this.socket.readyState <= WebSocket.OPEN) return;
    this.connect();
  }

  leave() {
    this.leaving = true;
    clearTimeout(this.retryTimer);
    this.socket.close();
  }

  visibilityChanged() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) this.hiddenTimer = setTimeout(() => this.leave(), HIDDEN_MS);
    else this.hurry();
  }

  pill(name, words) {
    const pill = document.getElementById("conn");
    pill.dataset.s = name;
    text(pill, words);
  }

  showCountdown() {
    if (this.retryAt === null || this.ended) return;
    this.pill("wait", `Reconnecting in ${Math.max(0, Math.ceil((this.retryAt - Date.now()) / 1000))}s`);
  }
}

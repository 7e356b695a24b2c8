"use strict";

const WIDTH = 600, TOP = 4, BOTTOM = 136;   // of the chart, in its own units
const LEAST_MS = 60 * 1000, MOST_MS = 5 * 60 * 1000;   // from its left edge to its right
const SILENCE_MS = 3000;                    // events come every second
const AGAIN_MS = 100, RETRY_MS = 2000;      // until it connects again: if somebody has answered, and if nobody has
const LOST = "The process does not answer any more. Trying again.";
const SENTENCES = {
  serving: () => "Taking requests.",
  lame_duck: (s) => `Still taking requests, but not ready for more clients. Asked for by: ${s.reason}.`,
  draining: (s) => `Taking no new requests; waiting for what is in flight. Asked for by: ${s.reason}.`,
  drained: (s) => `Everything came to its own end, in ${seconds(s.took_ms)}. Asked for by: ${s.reason}.`,
  timed_out: (s) => `The deadline cut ${s.remaining}, after ${seconds(s.took_ms)}. Asked for by: ${s.reason}.`,
};

const by_id = (id) => document.getElementById(id);
let samples = [], status_now = null, heard_at = 0, longest_left = 0, connected = false, farewell = LOST;

function seconds(ms) {
  return ms < 10000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}

function uptime(s) {
  const [days, hours, minutes] = [s / 86400, s / 3600 % 24, s / 60 % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${Math.floor(s % 60)} s` : `${Math.floor(s)} s`;
}

function say(text) {
  if (by_id("spoken").textContent !== text) by_id("spoken").textContent = text;
}

function show_phase(phase, words, sentence) {
  by_id("phase").dataset.phase = phase;
  by_id("phase").lastElementChild.textContent = words;
  by_id("sentence").textContent = sentence;
  document.title = `${words} – ${location.host}`;
}

function show_countdown() {
  const running = status_now !== null && status_now.left_ms !== null;
  by_id("countdown").hidden = !running;
  if (!running) { longest_left = 0; return; }
  const left = Math.max(0, status_now.left_ms - (performance.now() - heard_at));
  longest_left = Math.max(longest_left, status_now.left_ms + status_now.took_ms);
  by_id("left").textContent = seconds(left);
  by_id("bar").value = longest_left === 0 ? 0 : left / longest_left;
  by_id("at-deadline").textContent = `Then: ${status_now.at_deadline}.`;
}

function show_chart() {
  const now = performance.now();
  samples = samples.filter(({at}) => now - at <= MOST_MS);
  const shown = Math.max(LEAST_MS, now - samples[0].at);
  const most = Math.max(...samples.map(({n}) => n));
  const x = (at) => (WIDTH - (now - at) * WIDTH / shown).toFixed(1);
  const y = (n) => (BOTTOM - (BOTTOM - TOP) * n / Math.max(1, most)).toFixed(1);
  const points = samples.map(({at, n}) => `${x(at)},${y(n)}`).join(" ");
  by_id("line").setAttribute("points", points);
  by_id("area").setAttribute("points", `${x(samples[0].at)},${BOTTOM} ${points} ${WIDTH},${BOTTOM}`);
  by_id("most").textContent = `most: ${most}`;
  by_id("since").textContent = `${Math.round(shown / 1000)} s ago`;
  by_id("chart").setAttribute("aria-label", `Requests in flight: ${samples.at(-1).n} now, at most ${most} lately`);
}

function show_oldest(oldest) {
  by_id("oldest").hidden = oldest.length === 0;
  by_id("none").hidden = oldest.length !== 0;
  by_id("oldest").tBodies[0].replaceChildren(...oldest.map(({name, age_ms}) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = name;
    row.insertCell().textContent = seconds(age_ms);
    return row;
  }));
}

function show_about(status) {
  by_id("node-id").textContent = status.node_id === null ? "" : `node ${status.node_id}`;
  by_id("pid").textContent = `pid ${status.pid}`;
  by_id("uptime").textContent = status.uptime_s === null ? "not started" : `up ${uptime(status.uptime_s)}`;
  by_id("version").textContent = `twisted_node ${status.version}`;
}

function show(status) {
  const words = status.phase.replace("_", " ");
  status_now = status;
  heard_at = performance.now();
  document.body.classList.remove("gone");
  show_phase(status.phase, words, SENTENCES[status.phase](status));
  for (const name of ["connections", "finished", "refused", "cut", "undelivered"]) by_id(name).textContent = status[name];
  by_id("in-flight").textContent = status.in_flight;
  by_id("cut").classList.toggle("bad", status.cut > 0);
  by_id("oldest-title").textContent = status.phase === "timed_out" ? "Oldest requests cut" : "Oldest requests";
  show_oldest(status.oldest);
  show_about(status);
  show_countdown();
  say(status.phase === "serving" ? "Serving." : `${words}: ${SENTENCES[status.phase](status)}`);
}

function show_gone(sentence) {
  document.body.classList.add("gone");
  status_now = null;
  show_countdown();
  show_phase("unknown", "gone", sentence);
  say(sentence);
}

function connect() {
  const source = new EventSource("events");
  source.addEventListener("history", (event) => {
    const {seconds: apart, in_flight} = JSON.parse(event.data), now = performance.now();
    samples = in_flight.map((n, i) => ({at: now - (in_flight.length - 1 - i) * apart * 1000, n}));
    connected = true;
    farewell = LOST;
  });
  source.addEventListener("message", (event) => {
    const status = JSON.parse(event.data);
    samples.push({at: performance.now(), n: status.in_flight});
    show(status);
    show_chart();
  });
  source.addEventListener("ended", (event) => {
    const status = JSON.parse(event.data);
    show(status);
    farewell = `The process has ended, ${status.cut ? `${status.cut} cut` : "nothing cut"}. Waiting for the next one.`;
  });
  source.addEventListener("error", () => {
    source.close();
    // Its successor may be there already: it is gone only when nobody answers.
    if (!connected) show_gone(farewell);
    setTimeout(connect, connected ? AGAIN_MS : RETRY_MS);
    connected = false;
  });
}

by_id("where").textContent = location.host;
setInterval(() => {
  if (status_now !== null && performance.now() - heard_at > SILENCE_MS) {
    const silence = seconds(performance.now() - heard_at);
    if (connected) by_id("sentence").textContent = `Nothing heard for ${silence}: it is busy, or stuck.`;
    else show_gone(farewell);
  }
  show_countdown();
}, 250);
connect();

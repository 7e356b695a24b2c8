// The same as python_client.py, for Node: node_client.mjs agent|fetch METHOD URL.
import http from "node:http";

const [library, method, url] = process.argv.slice(2);
const ASKERS = 8, WARM_UP = 3;
const body = method === "POST" ? "x=1" : undefined;
let answers = 0;

function withAgent(agent) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { agent, method, headers: body ? { "Content-Length": body.length } : {} }, (response) => {
      response.on("error", reject);
      response.on("end", () => resolve(response.statusCode));
      response.resume();
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function withFetch() {
  const response = await fetch(url, { method, body });
  await response.text();
  return response.status;
}

async function loop() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let count = 0; count < 10000; count++) {
    let status;
    try {
      status = await (library === "agent" ? withAgent(agent) : withFetch());
    } catch (error) {
      const text = [];
      for (let cause = error; cause; cause = cause.cause) text.push(`${cause.code ?? cause.name}: ${cause.message}`);
      if (!text.join().includes("ECONNREFUSED")) console.log(text.join(" <- "));
      break;
    }
    if (status === 503) break;
    if (status !== 200) throw new Error(`status ${status}`);
    if (count < WARM_UP && ++answers === ASKERS * WARM_UP) console.log("ready");
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 300));
  }
  agent.destroy();
}

await Promise.all(Array.from({ length: ASKERS }, loop));
process.exit(0);

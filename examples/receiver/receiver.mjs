// A receiver of Keepsake's events: it believes only what is signed, and takes each event once.
//
//     EVENTS_KEYS=whsec_… PORT=9000 node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const keys = process.env.EVENTS_KEYS.split(/[\s,]+/).map((key) => Buffer.from(key.replace(/^whsec_/, ""), "base64"));
const TOLERANCE_SECONDS = 300;
const LARGEST = 64 * 1024;

/** Whether the message is from who has a key, and was sent just now. */
function isGenuine(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": sent, "webhook-signature": signatures } = headers;
  if (!id || !signatures || !(Math.abs(Date.now() / 1000 - Number(sent)) <= TOLERANCE_SECONDS)) return false;
  const wanted = keys.map((key) => createHmac("sha256", key).update(`${id}.${sent}.`).update(body).digest());
  return signatures
    .split(" ")
    .filter((signature) => signature.startsWith("v1,"))
    .map((signature) => Buffer.from(signature.slice(3), "base64"))
    .some((given) => wanted.some((mac) => given.length === mac.length && timingSafeEqual(given, mac)));
}

// Ids of events that were taken. An application keeps them in its database, in the transaction of what it does with them.
const taken = new Set();

/** What the application does. An event says what happened; the API says how things are now. */
function take(id, event) {
  if (taken.has(id)) return;
  console.log(JSON.stringify({ id, ...event }));
  taken.add(id);
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > LARGEST) throw new Error("too large");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const server = createServer(async (request, response) => {
  try {
    const body = await read(request);
    if (request.method !== "POST" || !isGenuine(request.headers, body)) {
      response.writeHead(401).end();
      return;
    }
    take(request.headers["webhook-id"], JSON.parse(body));
    // Only now: without this answer the event comes again.
    response.writeHead(204).end();
  } catch (error) {
    console.error(error.message);
    response.writeHead(500).end();
  }
});
server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1");

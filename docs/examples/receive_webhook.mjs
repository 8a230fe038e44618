// Receives webhooks with nothing but Node: WEBHOOK_SECRET=whsec_… node receive_webhook.mjs 8081
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const toleranceS = 300;
const maxBody = 64 * 1024;
const seen = new Set(); // in earnest: a table with webhook-id as its key, written together with what you do

// Check the raw body before anything reads it.
function isGenuine(headers, body) {
  const message = headers["webhook-id"] ?? "";
  const stamp = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > toleranceS) return false;
  const expected = createHmac("sha256", secret).update(`${message}.${stamp}.`).update(body).digest();
  // Several signatures while a secret is being replaced: one that fits is enough.
  return (headers["webhook-signature"] ?? "").split(" ").some((each) => {
    const given = Buffer.from(each.replace(/^v1,/, ""), "base64");
    return each.startsWith("v1,") && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

const server = createServer((request, response) => {
  const parts = [];
  let size = 0;
  request.on("data", (part) => {
    size += part.length;
    if (size > maxBody) request.destroy();
    parts.push(part);
  });
  request.on("end", () => {
    const body = Buffer.concat(parts);
    if (!isGenuine(request.headers, body)) {
      response.writeHead(401).end();
      return;
    }
    const id = request.headers["webhook-id"];
    if (!seen.has(id)) { // a repeat is answered like the first one
      seen.add(id);
      const message = JSON.parse(body);
      console.log(message.type, JSON.stringify(message.data));
    }
    response.writeHead(204).end();
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));

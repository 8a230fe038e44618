// Activate a license code with a signed request; nothing but Node's standard library.
// usage: node activate.mjs BASE_URL ACCESS_KEY SECRET_KEY LICENSE_CODE
import { createHash, createHmac } from "node:crypto";
import http from "node:http";
import https from "node:https";

const PATH = "/api/mkp-openapi-public/global/v1/license/activate";
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** Sign as the marketplace's SDKs do (SDK-HMAC-SHA256). */
function signedHeaders(host, body, accessKey, secretKey) {
  const date = new Date().toISOString().replace(/[-:]|\.\d{3}/g, "");
  const canonical = [
    "POST",
    `${PATH}/`,
    "",
    `content-type:application/json\nhost:${host}\nx-sdk-date:${date}\n`,
    "content-type;host;x-sdk-date",
    sha256(body),
  ].join("\n");
  const toSign = `SDK-HMAC-SHA256\n${date}\n${sha256(canonical)}`;
  const signature = createHmac("sha256", secretKey).update(toSign).digest("hex");
  return {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    Host: host,
    "X-Sdk-Date": date,
    Authorization: `SDK-HMAC-SHA256 Access=${accessKey}, SignedHeaders=content-type;host;x-sdk-date, Signature=${signature}`,
  };
}

const [baseUrl, accessKey, secretKey, license] = process.argv.slice(2);
const url = new URL(PATH, baseUrl);
const body = JSON.stringify({ license });
const { request } = url.protocol === "https:" ? https : http;
const headers = signedHeaders(url.host, body, accessKey, secretKey);

request(url, { method: "POST", headers, timeout: 10_000 }, async (response) => {
  response.setEncoding("utf8");
  let text = "";
  for await (const chunk of response) text += chunk;
  console.log(text);
  process.exitCode = JSON.parse(text).error_code === "92020000" ? 0 : 1;
})
  .on("timeout", function () {
    this.destroy(new Error("no answer within 10 s"));
  })
  .on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .end(body);

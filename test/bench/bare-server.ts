import { createServer } from "node:http";

/**
 * The baseline: node:http that sends fixed bytes with the headers of the proxy. Usage: bare-server.ts PORT
 * BODY
 */
const [port = "0", body = ""] = process.argv.slice(2);
const bytes = Buffer.from(body);
const headers = [
  "Content-Type",
  "text/plain",
  "Accept-Ranges",
  "none",
  "Content-Length",
  String(bytes.length),
  "Server",
  "EC2ws",
  "X-Aws-Ec2-Metadata-Token-Ttl-Seconds",
  "21600",
];
const server = createServer({ keepAliveTimeout: 75_000 }, (_request, response) => {
  response.writeHead(200, headers);
  response.end(bytes);
});
server.listen(Number(port), "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${JSON.stringify({ port: typeof address === "object" ? address?.port : 0 })}\n`);
});
process.on("SIGTERM", () => process.exit(0));

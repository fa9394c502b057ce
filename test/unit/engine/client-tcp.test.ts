import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import t from "tap";
import { Directory } from "../../../src/containers/directory.ts";
import { watchEngine } from "../../../src/engine/connection.ts";
import { EngineStandIn } from "../../support/engine/engine.ts";
import { clocks, times, web } from "../../support/engine/following.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A port of loopback before the stand-in's socket. */
async function inFront(
  t: Teardown,
  make: (target: string) => Server,
): Promise<{ engine: EngineStandIn; port: number }> {
  const engine = await EngineStandIn.listen();
  engine.run(web("172.17.0.2"));
  const front = make(engine.socketPath).listen(0, "127.0.0.1");
  await once(front, "listening");
  t.teardown(async () => {
    front.close();
    await engine[Symbol.asyncDispose]();
  });
  const { port } = front.address() as AddressInfo; // a TCP server's address is never a string
  return { engine, port };
}

type Teardown = { teardown(run: () => Promise<void>): void };

const forward = (target: string) => (socket: Socket) => {
  const inner = connect(target);
  for (const end of [socket, inner])
    end.on("error", () => {}).on("close", () => (end === socket ? inner : socket).destroy());
  socket.pipe(inner).pipe(socket);
};

t.test("an engine on a TCP port, whatever DOCKER_HOST says", async (t) => {
  const { port } = await inFront(t, (target) => createServer(forward(target)));
  // docker-modem looks at these by itself; what the configuration says must win.
  process.env.DOCKER_HOST = "tcp://192.0.2.1:1";
  process.env.DOCKER_TLS_VERIFY = "1";
  t.teardown(() => {
    delete process.env.DOCKER_HOST;
    delete process.env.DOCKER_TLS_VERIFY;
  });
  const directory = new Directory();
  const watch = watchEngine({ host: `tcp://127.0.0.1:${port}`, directory, log, times, ...clocks });
  await watch.settled;
  t.match(watch.state(), { connected: true, containers: 1 });
  await watch.stop();
});

t.test(
  "an engine behind TLS, with client certificates; without them, or with a wrong CA, it is not followed",
  async (t) => {
    const files = certificates(t.testdir());
    if (files === undefined) {
      if (process.env.CI === "true") t.fail("openssl is missing");
      else t.comment("not run: openssl is missing");
      return;
    }
    const { ca, cert, key, otherCa } = files;
    const options = {
      ca: readFileSync(ca),
      cert: readFileSync(cert),
      key: readFileSync(key),
      requestCert: true,
    };
    const { port } = await inFront(t, (target) => createTlsServer(options, forward(target)));
    const host = `tcp://127.0.0.1:${port}`;
    const ways = [
      ["with all three files", { ca, cert, key }, true],
      ["without a certificate", { ca }, false],
      ["with another CA", { ca: otherCa, cert, key }, false],
      ["with a file that is not there", { ca: `${ca}.missing`, cert, key }, false],
    ] as const;
    for (const [what, tls, expected] of ways) {
      const watch = watchEngine({ host, tls, directory: new Directory(), log, times, ...clocks });
      await watch.settled;
      t.equal(watch.state().connected, expected, what);
      if (!expected) t.match(watch.state().lastError, /./, "and the state says why");
      await watch.stop();
    }
  },
);

/** A CA, a certificate for 127.0.0.1 that it signed, and a CA that signed nothing; undefined where there is no openssl. */
function certificates(directory: string) {
  const script = `set -e; cd "$1"; new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for name in ca other; do openssl req -x509 $new -days 1 -subj /CN=$name -keyout $name.key -out $name.pem; done
    openssl req $new -subj /CN=engine -keyout key.pem -out request.pem
    echo subjectAltName=IP:127.0.0.1 >names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out cert.pem -extfile names`;
  if (spawnSync("sh", ["-c", script, "sh", directory], { stdio: "ignore" }).status !== 0) return undefined;
  const at = (name: string) => `${directory}/${name}.pem`;
  return { ca: at("ca"), cert: at("cert"), key: at("key"), otherCa: at("other") };
}

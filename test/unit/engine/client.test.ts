import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import t from "tap";
import { Directory } from "../../../src/containers/directory.ts";
import { followEngine } from "../../../src/engine/connection.ts";
import { clocks, times, web } from "../../support/engine/following.ts";
import { EngineStandIn, idOf } from "../../support/engine/stand-in.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A server on a loopback port that forwards to the stand-in's socket. */
async function proxied(
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

t.test("an engine on a TCP port is followed, whatever DOCKER_HOST says", async (t) => {
  const { port } = await proxied(t, (target) => createServer(forward(target)));
  // docker-modem reads these by itself; the configuration must win.
  process.env.DOCKER_HOST = "tcp://192.0.2.1:1";
  process.env.DOCKER_TLS_VERIFY = "1";
  t.teardown(() => {
    delete process.env.DOCKER_HOST;
    delete process.env.DOCKER_TLS_VERIFY;
  });
  const directory = new Directory();
  const connection = followEngine({ host: `tcp://127.0.0.1:${port}`, directory, log, times, ...clocks });
  await connection.settled;
  t.match(connection.state(), { connected: true, containers: 1 });
  await connection.stop();
});

for (const [what, cgroup, isHere] of [
  ["of this host", `0::/system.slice/docker-${idOf("web")}.scope\n`, true],
  ["of a local container with that pid", `0::/system.slice/docker-${idOf("other")}.scope\n`, false],
  ["without a cgroup", undefined, false],
] as const)
  t.test(
    `a process ${what} ${isHere ? "is" : "is not"} that of a container of an engine at tcp://`,
    async (t) => {
      const procRoot = t.testdir({
        [process.pid]: {
          stat: `1 (a) S${" 0".repeat(18)} 777 0`,
          ...(cgroup !== undefined && { cgroup }),
        },
      });
      const { port } = await proxied(t, (target) => createServer(forward(target)));
      const directory = new Directory();
      const host = `tcp://127.0.0.1:${port}`;
      const connection = followEngine({ host, directory, log, times, procRoot, ...clocks });
      await connection.settled;
      const [container] = directory.containers();
      t.equal(container?.pid, process.pid);
      t.equal(container?.pidStartedAt, isHere ? 777 : undefined);
      await connection.stop();
    },
  );

t.test("an engine behind TLS with client certificates", async (t) => {
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
  const { port } = await proxied(t, (target) => createTlsServer(options, forward(target)));
  const host = `tcp://127.0.0.1:${port}`;
  const cases = [
    ["with all three files", { ca, cert, key }, true],
    ["without a certificate", { ca }, false],
    ["with another CA", { ca: otherCa, cert, key }, false],
    ["with a file that does not exist", { ca: `${ca}.missing`, cert, key }, false],
  ] as const;
  for (const [what, tls, expected] of cases) {
    await t.test(
      `${what} it is ${expected ? "followed" : "not followed, and the state has the reason"}`,
      async (t) => {
        const connection = followEngine({ host, tls, directory: new Directory(), log, times, ...clocks });
        await connection.settled;
        t.equal(connection.state().connected, expected);
        if (!expected) t.match(connection.state().lastError, /./);
        await connection.stop();
      },
    );
  }
});

/**
 * A CA, a certificate for 127.0.0.1 that it signed, and a CA that signed nothing. Undefined if openssl is
 * missing.
 */
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

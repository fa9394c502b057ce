import { open, writeFile } from "node:fs/promises";
import t from "tap";
import { findSockets, type Pattern, patternFor, socketColumn } from "../../../src/containers/socket-table.ts";

const columns = [
  ["172.17.0.2", 50000, false, "LE", "020011AC:C350"],
  ["172.17.0.2", 50000, false, "BE", "AC110002:C350"],
  ["169.254.169.254", 80, false, "LE", "FEA9FEA9:0050"],
  ["172.17.0.2", 80, true, "LE", "0000000000000000FFFF0000020011AC:0050"],
  ["172.17.0.2", 80, true, "BE", "00000000000000000000FFFFAC110002:0050"],
  ["fd00:ec2::254", 80, true, "LE", "C20E00FD000000000000000054020000:0050"],
  ["::1", 1, true, "LE", "00000000000000000000000001000000:0001"],
] as const;
for (const [address, port, asIpv6, order, expected] of columns) {
  t.test(
    `${address} port ${port} is written ${expected} (${order}, ${asIpv6 ? "tcp6" : "tcp"})`,
    async (t) => {
      t.equal(socketColumn({ address, port }, asIpv6, order), expected);
    },
  );
}

t.test("an IPv6 client is never in the table of IPv4 sockets", async (t) => {
  t.equal(patternFor("tcp", { address: "fd00::2", port: 1 }, []), undefined);
});

const client = { address: "172.17.0.2", port: 50000 };
const metadata = { address: "169.254.169.254", port: 80 };
const direct = { address: "172.17.0.1", port: 18000 };
const pattern = () =>
  patternFor("tcp", client, [metadata, direct, { address: "fd00:ec2::254", port: 80 }]) as Pattern; // never undefined for an IPv4 client

const header =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const line = (local: string, remote: string, state: string, slot = 0) =>
  `${String(slot).padStart(4)}: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 20 4 30 10 -1`.padEnd(
    149,
  );
const local = socketColumn(client, false);
const remote = socketColumn(metadata, false);
const other = Array.from({ length: 2000 }, (_, slot) => line("0100007F:1F90", "0100007F:C350", "01", slot));

const tables: ReadonlyArray<readonly [string, readonly string[], boolean]> = [
  ["the connection to the metadata address", [line(local, remote, "01")], true],
  ["the connection to where it was accepted", [line(local, socketColumn(direct, false), "01")], true],
  ["after another of the same port", [line(local, "01010101:01BB", "01"), line(local, remote, "01")], true],
  ["after two thousand others", [...other, line(local, remote, "01")], true],
  ["before two thousand others", [line(local, remote, "01"), ...other], true],
  ["an empty table", [], false],
  ["two thousand others", other, false],
  ["the port in use towards another peer", [line(local, "01010101:0050", "01")], false],
  ["the metadata address at another port", [line(local, "FEA9FEA9:0051", "01")], false],
  ["a neighbouring port", [line("020011AC:C351", remote, "01")], false],
  ["a neighbouring address", [line("030011AC:C350", remote, "01")], false],
  ["the ends swapped", [line(remote, local, "01")], false],
  // 02 SYN_SENT, 04 and 05 FIN_WAIT, 06 TIME_WAIT, 08 CLOSE_WAIT, 0A LISTEN
  ...["02", "04", "05", "06", "08", "0A"].map(
    (state) => [`in state ${state}`, [line(local, remote, state)], false] as const,
  ),
];

for (const [what, rows, expected] of tables) {
  t.test(`${what}: ${expected ? "found" : "not found"}`, async (t) => {
    const path = `${t.testdir()}/tcp`;
    await writeFile(path, [header.padEnd(149), ...rows, ""].join("\n"));
    await using table = await open(path);
    const one = pattern();
    let reads = 0;
    const found = await findSockets(table, [one], (read) => {
      reads += 1;
      return read();
    });
    t.equal(found.established.has(one), expected);
    t.notOk(found.listening.has(one));
    if (what.startsWith("before")) t.equal(reads, 1, "it stops at the first match");
  });
}

const anyAddress = "00000000:0000";
const listeners: ReadonlyArray<readonly [string, readonly string[], boolean]> = [
  ["on every address", [line("00000000:C350", anyAddress, "0A"), line(local, remote, "01")], true],
  ["on this address", [line(local, anyAddress, "0A"), line(local, remote, "01")], true],
  ["on another address", [line("0100007F:C350", anyAddress, "0A"), line(local, remote, "01")], true],
  [
    "a thousand listeners before it",
    [
      ...Array.from({ length: 1000 }, (_, slot) => line("00000000:1F90", anyAddress, "0A", slot)),
      line("00000000:C350", anyAddress, "0A"),
      line(local, remote, "01"),
    ],
    true,
  ],
  ["on another port", [line("00000000:C351", anyAddress, "0A"), line(local, remote, "01")], false],
  ["a port that only ends so", [line("00000000:0C35", anyAddress, "0A"), line(local, remote, "01")], false],
  ["unconnected and not listening", [line(local, anyAddress, "07"), line(local, remote, "01")], false],
  ["another's remote end", [line("0100007F:1F90", "0100007F:C350", "01"), line(local, remote, "01")], false],
];

for (const [what, rows, expected] of listeners) {
  t.test(`a listening socket ${what}: ${expected ? "found" : "not found"}`, async (t) => {
    const path = `${t.testdir()}/tcp`;
    await writeFile(path, [header.padEnd(149), ...rows, ""].join("\n"));
    await using table = await open(path);
    const one = pattern();
    const found = await findSockets(table, [one], (read) => read());
    t.ok(found.established.has(one));
    t.equal(found.listening.has(one), expected);
  });
}

t.test("a line is found wherever the chunks of the table end", async (t) => {
  const path = `${t.testdir()}/tcp`;
  // A header that grows byte by byte moves the connection's line over the end of a 16 KiB chunk.
  for (let shift = 0; shift < 160; shift += 1) {
    const rows = [...other.slice(0, 109), line(local, remote, "01"), ...other.slice(0, 30)];
    await writeFile(path, ["x".repeat(shift), ...rows, ""].join("\n"));
    await using table = await open(path);
    const one = pattern();
    const found = await findSockets(table, [one], (read) => read());
    if (!found.established.has(one)) t.fail(`missed with a header of ${shift} bytes`);
  }
  t.pass("found in all 160 positions");
});

t.test("a file that is not a table ends in an error before it fills the memory", async (t) => {
  const path = `${t.testdir()}/tcp`;
  await writeFile(path, "x".repeat(200_000));
  await using table = await open(path);
  await t.rejects(
    findSockets(table, [pattern()], (read) => read()),
    /a line of more than 16 KiB/,
  );
});

for (const [state, isClosed] of [
  ["04", true],
  ["05", true],
  ["06", true],
  ["01", false],
  ["02", false],
  ["08", false],
  ["0A", false],
] as const)
  t.test(
    `state ${state} ${isClosed ? "is" : "is not"} that of a connection that the client closed`,
    async (t) => {
      const path = `${t.testdir()}/tcp`;
      await writeFile(path, [header.padEnd(149), line(local, remote, state), ""].join("\n"));
      await using table = await open(path);
      const one = pattern();
      t.equal((await findSockets(table, [one], (read) => read())).closed.has(one), isClosed);
    },
  );

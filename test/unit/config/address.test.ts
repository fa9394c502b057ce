import t from "tap";
import { addressBytes, canonicalAddress } from "../../../src/config/address.ts";

const spellings = [
  ["172.17.0.2", "172.17.0.2"],
  ["0.0.0.0", "0.0.0.0"],
  ["255.255.255.255", "255.255.255.255"],
  // IPv4-mapped
  ["::ffff:172.17.0.2", "172.17.0.2"],
  ["::FFFF:172.17.0.2", "172.17.0.2"],
  ["::ffff:ac11:2", "172.17.0.2"],
  ["0:0:0:0:0:ffff:ac11:0002", "172.17.0.2"],
  ["0:0:0:0:0:ffff:172.17.0.2", "172.17.0.2"],
  ["::0:ffff:172.17.0.2", "172.17.0.2"],
  ["::ffff:172.17.0.2%eth0", "172.17.0.2"],
  ["::ffff:0.0.0.0", "0.0.0.0"],
  // Not mapped, though they look like it
  ["::172.17.0.2", "::172.17.0.2"],
  ["::ac11:2", "::172.17.0.2"],
  ["::ffff:0:ac11:2", "::ffff:0:ac11:2"],
  ["::ffff:0:172.17.0.2", "::ffff:0:ac11:2"],
  ["64:ff9b::172.17.0.2", "64:ff9b::ac11:2"],
  ["::ffff", "::ffff"],
  ["::ffff:1", "::255.255.0.1"],
  // Case, leading zeros, runs of zeros
  ["FD00:EC2::254", "fd00:ec2::254"],
  ["fd00:0ec2:0:0:0:0:0:254", "fd00:ec2::254"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
  ["1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a"],
  ["::1", "::1"],
  ["::0001", "::1"],
  ["::2", "::2"],
  ["::", "::"],
  ["0:0:0:0:0:0:0:0", "::"],
  // Zones
  ["fe80::1%eth0", "fe80::1"],
  ["fe80::1%eth0.100", "fe80::1"],
  ["fe80::1%", "fe80::1"],
  ["fe80::1%a%b", "fe80::1"],
  ["fe80::1%25eth0", "fe80::1"],
  ["172.17.0.2%eth0", undefined],
  ["%eth0", undefined],
  ["%", undefined],
  // Octal, hex and short IPv4, as inet_aton(3) reads it
  ["172.17.0.02", undefined],
  ["010.0.0.5", undefined],
  ["00.0.0.0", undefined],
  ["0x0a.0.0.5", undefined],
  ["0xac110002", undefined],
  ["172.17.2", undefined],
  ["1.2.3", undefined],
  ["127.1", undefined],
  ["127", undefined],
  ["2852039166", undefined],
  ["::ffff:172.17.0.02", undefined],
  ["::ffff:0xac.17.0.2", undefined],
  ["::ffff:172.17.2", undefined],
  ["::010.0.0.5", undefined],
  // Out of range, too many or too few parts
  ["172.17.0.256", undefined],
  ["172.17.0.2.1", undefined],
  ["172.17..2", undefined],
  [".172.17.0.2", undefined],
  ["172.17.0.2.", undefined],
  ["-1.0.0.0", undefined],
  ["+1.0.0.0", undefined],
  ["1e1.0.0.0", undefined],
  ["::ffff:172.17.0.256", undefined],
  ["1:2:3:4:5:6:7", undefined],
  ["1:2:3:4:5:6:7:8:9", undefined],
  ["1:2:3:4:5:6:7:8::", undefined],
  ["::1:2:3:4:5:6:7:8", undefined],
  ["1:2:3:4:5:6:7:1.2.3.4", undefined],
  ["1.2.3.4::", undefined],
  ["1::2::3", undefined],
  ["1:::2", undefined],
  [":1:2:3:4:5:6:7", undefined],
  ["1:2:3:4:5:6:7:", undefined],
  [":::", undefined],
  [":", undefined],
  ["12345::", undefined],
  ["00001::", undefined],
  ["::g", undefined],
  ["0x1::", undefined],
  // Brackets, ports, prefix lengths, surrounding text
  ["[::1]", undefined],
  ["[172.17.0.2]", undefined],
  ["[::1]:80", undefined],
  ["172.17.0.2:80", undefined],
  ["172.17.0.2/16", undefined],
  ["fd00::1/64", undefined],
  ["::1 ", undefined],
  [" ::1", undefined],
  ["172.17.0.2 ", undefined],
  [" 172.17.0.2", undefined],
  ["172.17.0.2\n", undefined],
  ["172.17.0.2\0", undefined],
  ["::1\0", undefined],
  ["172.17.0.2,10.0.0.1", undefined],
  ["１72.17.0.2", undefined],
  ["172。17。0。2", undefined],
  ["", undefined],
  ["localhost", undefined],
] as const;

for (const [text, expected] of spellings) {
  t.test(`${JSON.stringify(text)} is ${expected ?? "no address"}`, async (t) => {
    t.equal(canonicalAddress(text), expected);
    if (expected !== undefined) t.equal(canonicalAddress(expected), expected, "and that form is its own");
  });
}

/** Numerical Recipes' generator: every run tries the same spellings. */
function* randomNumbers(): Generator<number, never> {
  for (let state = 1; ; yield state / 2 ** 32) state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
}

const numbers = randomNumbers();
const below = (limit: number) => Math.floor(numbers.next().value * limit);
const oneOf = <T>(items: readonly [T, ...T[]]): T => items[below(items.length)] ?? items[0];

/** Eight 16-bit groups, often zero, often IPv4-mapped or IPv4-compatible. */
function randomGroups(): number[] {
  const group = () => oneOf([0, 0, 0, 1, 0xffff, 0xac11, below(0x100), below(0x10000)]);
  const tail = [group(), group()];
  const head = oneOf([
    [0, 0, 0, 0, 0, 0xffff],
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0xffff, 0],
    ...Array.from({ length: 5 }, () => Array.from({ length: 6 }, group)),
  ]);
  return [...head, ...tail];
}

const dotted = ([a = 0, b = 0]: readonly number[]) => [a >> 8, a & 0xff, b >> 8, b & 0xff].join(".");

/** One of the many ways in which an IPv6 address may be written. */
function spell(groups: readonly number[]): string {
  const hex = (group: number) => {
    const digits = group.toString(16).padStart(oneOf([1, 1, 2, 3, 4]), "0");
    return oneOf([digits, digits.toUpperCase()]);
  };
  const isDotted = below(3) === 0;
  const parts = [
    ...groups.slice(0, isDotted ? 6 : 8).map(hex),
    ...(isDotted ? [dotted(groups.slice(6))] : []),
  ];
  const zone = oneOf(["", "", "", "%eth0", "%", "%br-1.2", "%%"]);
  // `::` may stand for any run of zeros, also for a single one or for a part of a run.
  const runs = parts.flatMap((_, from) =>
    parts.map((_, to) => [from, to + 1] as const).filter(([a, b]) => isZero(parts.slice(a, b))),
  );
  const [first] = runs;
  if (first === undefined || below(4) === 0) return parts.join(":") + zone;
  const [from, to] = oneOf([first, ...runs]);
  return `${parts.slice(0, from).join(":")}::${parts.slice(to).join(":")}${zone}`;
}

const isZero = (parts: readonly string[]) => parts.length > 0 && parts.every((part) => /^0+$/.test(part));

/** The canonical form, written from the groups as inet_ntop(3) is documented to write it. */
function reference(groups: readonly number[]): string {
  const head = groups.slice(0, 5);
  const [, , , , , sixth = 0, seventh = 0, eighth = 0] = groups;
  if (head.every((group) => group === 0)) {
    if (sixth === 0xffff) return dotted([seventh, eighth]);
    if (sixth === 0 && seventh !== 0) return `::${dotted([seventh, eighth])}`;
  }
  let [from, length] = [0, 1];
  for (let at = 0; at < 8; at += 1) {
    let end = at;
    while (groups[end] === 0) end += 1;
    if (end - at > length) [from, length] = [at, end - at];
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  return length === 1 ? hex(groups) : `${hex(groups.slice(0, from))}::${hex(groups.slice(from + length))}`;
}

const generated = Array.from({ length: 5000 }, () => {
  const groups = randomGroups();
  return { groups, text: spell(groups), expected: reference(groups) };
});

t.test("5,000 spellings of IPv6 addresses have the canonical form that their groups say", async (t) => {
  const wrong = generated
    .map(({ text, expected }) => ({ text, expected, found: canonicalAddress(text) }))
    .filter(({ expected, found }) => found !== expected);
  t.same(wrong, []);
});

t.test("the canonical forms of these spellings have the bytes of their groups", async (t) => {
  const wrong = generated
    .map(({ groups, expected }) => {
      const bytes = groups.flatMap((group) => [group >> 8, group & 0xff]);
      return { expected, bytes: expected.includes(":") ? bytes : bytes.slice(12) };
    })
    .filter(({ expected, bytes }) => Buffer.compare(addressBytes(expected), Buffer.from(bytes)) !== 0);
  t.same(wrong, []);
});

const withoutZone = generated.map(({ text }) => text.split("%", 1)[0] ?? "");
const damages: ReadonlyArray<readonly [string, (text: string) => string]> = [
  ["in brackets", (text) => `[${text}]`],
  ["with a space after it", (text) => `${text} `],
  ["with a space before it", (text) => ` ${text}`],
  ["with a line feed after it", (text) => `${text}\n`],
  ["with a NUL after it", (text) => `${text}\0`],
  ["with a prefix length", (text) => `${text}/64`],
  ["with a letter that is no hex digit", (text) => `${text}g`],
  ["with 0x before it", (text) => `0x${text}`],
  ["with a group of five digits", (text) => text.replace(/[0-9a-f]+(?=:)|$/i, "00001")],
  ["with a third colon", (text) => (text.includes("::") ? text.replace("::", ":::") : `${text}:::`)],
  ["with a second ::", (text) => (text.includes("::") ? `${text}::1` : `1::${text}::1`)],
  ["with nine groups", (text) => `${text.replace("::", ":0:")}:1:2:3:4:5:6:7:8`],
  ["with an octal number at its end", (text) => `${text.replace(/:[^:]*$/, "")}:010.0.0.5`],
  ["with a hex number at its end", (text) => `${text.replace(/:[^:]*$/, "")}:0x0a.0.0.5`],
  ["with a short IPv4 address at its end", (text) => `${text.replace(/:[^:]*$/, "")}:10.0.5`],
];
for (const [what, damage] of damages) {
  t.test(`the same spellings ${what} are no addresses`, async (t) => {
    const accepted = withoutZone.map(damage).filter((text) => canonicalAddress(text) !== undefined);
    t.same(accepted, []);
  });
}

t.test("an IPv4 address has one spelling: four decimal numbers without leading zeros", async (t) => {
  const wrong: string[] = [];
  for (let count = 0; count < 2000; count += 1) {
    const octets = Array.from({ length: 4 }, () => oneOf([0, 1, 10, 127, 169, 255, below(256)]));
    const text = octets.join(".");
    if (canonicalAddress(text) !== text) wrong.push(text);
    const at = below(4);
    const octet = octets[at] ?? 0;
    const odd = [
      `0${octet}`,
      `0${octet.toString(8)}`,
      `0x${octet.toString(16)}`,
      `${octet + 256}`,
      `${octet} `,
    ];
    for (const written of [...odd, "", `+${octet}`, `-${octet}`, `${octet}.0`]) {
      const other = octets.map(String).with(at, written).join(".");
      if (canonicalAddress(other) !== undefined) wrong.push(other);
      if (canonicalAddress(`::ffff:${other}`) !== undefined) wrong.push(`::ffff:${other}`);
    }
  }
  t.same(wrong, []);
});

const bytes = [
  ["172.17.0.2", [172, 17, 0, 2]],
  ["fd00:ec2::254", [0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54]],
  ["::1", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
  ["2001:db8::", [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
  ["1:2:3:4:5:6:7:8", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
  ["::1.2.3.4", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]],
] as const;
for (const [address, expected] of bytes) {
  t.test(`the bytes of ${address} are in network order`, async (t) => {
    t.same([...addressBytes(address)], expected);
  });
}

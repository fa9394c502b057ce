import t from "tap";
import { didYouMean } from "../../../src/config/suggest.ts";
import { problemLine } from "../../../src/errors.ts";
import { parseSettings } from "../../../src/firewall/parse-settings.ts";
import { defaultSettings, type Settings, settingKeys } from "../../../src/firewall/settings.ts";

function parse(...texts: readonly string[]) {
  const files = texts.map((text, index) => ({ path: `${index}.conf`, text }));
  return parseSettings(files, { proxy: 18_000 }, didYouMean);
}

const good: readonly {
  readonly is: string;
  readonly texts: readonly string[];
  readonly gives: Partial<Settings>;
}[] = [
  { is: "nothing at all", texts: [], gives: {} },
  {
    is: "comments, blank lines and no newline at the end",
    texts: ["# a\n\n   # b\nIPV6=off"],
    gives: { ipv6: "off" },
  },
  { is: "a comment after a value", texts: ["PROXY_PORT=8080 # ours"], gives: { proxyPort: 8080 } },
  {
    is: "double quotes",
    texts: ['INTERFACES="docker0 br-*" # both'],
    gives: { interfaces: ["docker0", "br-*"] },
  },
  { is: "single quotes and commas", texts: ["INTERFACES='a,b, c'"], gives: { interfaces: ["a", "b", "c"] } },
  {
    is: "an interface named twice",
    texts: ["INTERFACES=docker0 docker0"],
    gives: { interfaces: ["docker0"] },
  },
  {
    is: "an interface name of 15 characters and a wildcard",
    texts: ["INTERFACES=br-0123456789ab abcdefghijklmno*"],
    gives: { interfaces: ["br-0123456789ab", "abcdefghijklmno*"] },
  },
  { is: "a later line", texts: ["PROXY_PORT=1\nPROXY_PORT=2"], gives: { proxyPort: 2 } },
  {
    is: "a later file",
    texts: ["PROXY_PORT=1\nIPV6=off", "PROXY_PORT=2"],
    gives: { proxyPort: 2, ipv6: "off" },
  },
  { is: "an empty value", texts: ["PROXY_PORT=1", "PROXY_PORT="], gives: {} },
  {
    is: "Windows line endings",
    texts: ["IPV6=off\r\nBACKEND=iptables\r\n"],
    gives: { ipv6: "off", backend: "iptables" },
  },
  {
    is: "an IPv6 address in long form",
    texts: ["METADATA_IPV6=FD00:EC2:0:0:0:0:0:254"],
    gives: { metadataIpv6: "fd00:ec2::254" },
  },
  {
    is: "two proxy addresses",
    texts: ["PROXY_ADDRESS=10.0.0.1 fd00:1::1"],
    gives: { proxyAddress: { ipv4: "10.0.0.1", ipv6: "fd00:1::1" } },
  },
  {
    is: "another spelling of yes",
    texts: ["REJECT_INSTEAD_OF_DROP=TRUE"],
    gives: { rejectInsteadOfDrop: true },
  },
  {
    is: "users and the line that names them",
    texts: ["# x\nHOST_ACCESS=root 1001"],
    gives: { hostAccess: { kind: "users", users: ["root", "1001"], where: "0.conf:2" } },
  },
  { is: "all users", texts: ["HOST_ACCESS=all"], gives: {} },
];

for (const { is, texts, gives } of good) {
  t.test(`${is} is parsed`, (t) => {
    t.strictSame(parse(...texts), {
      ok: true,
      settings: { ...defaultSettings({ proxy: 18_000 }), ...gives },
    });
    t.end();
  });
}

const bad: readonly { readonly is: string; readonly text: string; readonly says: readonly string[] }[] = [
  {
    is: "an unknown key",
    text: "\nINTERFACE=docker0",
    says: ['0.conf:2: unknown setting "INTERFACE". Did you mean "INTERFACES"?'],
  },
  {
    is: "an unknown key that resembles none",
    text: "COLOUR=red",
    says: [`0.conf:1: unknown setting "COLOUR". The settings are ${settingKeys.join(", ")}.`],
  },
  {
    is: "a key in lower case",
    text: "ipv6=off",
    says: ['0.conf:1: unknown setting "ipv6". Did you mean "IPV6"?'],
  },
  {
    is: "a line that is not an assignment",
    text: "IPV6 = off",
    says: [
      '0.conf:1: expected KEY=value, got "IPV6 = off". No spaces around "="; a comment starts with "#".',
    ],
  },
  {
    is: "an unclosed quote",
    text: 'INTERFACES="docker0',
    says: ['0.conf:1: INTERFACES: the quote is not closed: "docker0.'],
  },
  {
    is: "an interface name that is too long",
    text: "INTERFACES=docker0 br-0123456789abc",
    says: ['0.conf:1: INTERFACES: "br-0123456789abc" has 16 characters; an interface name has at most 15.'],
  },
  {
    is: "a wildcard for every interface",
    text: "INTERFACES=*",
    says: [
      '0.conf:1: INTERFACES: "*" would match every interface of the host. Name the bridges: docker0 br-* podman*.',
    ],
  },
  {
    is: "a wildcard in the middle",
    text: "INTERFACES=br-*-x",
    says: ['0.conf:1: INTERFACES: "br-*-x" has a "*" that is not at its end.'],
  },
  {
    is: "nft syntax as an interface",
    text: "INTERFACES='a\" accept'",
    says: ['0.conf:1: INTERFACES: "a"" is not an interface name.'],
  },
  {
    is: "lo",
    text: "INTERFACES=lo",
    says: ['0.conf:1: INTERFACES: "lo" is the host itself. List only the bridges of containers.'],
  },
  {
    is: "a port out of range",
    text: "PROXY_PORT=65536",
    says: ['0.conf:1: PROXY_PORT: expected a port from 1 to 65535, got "65536".'],
  },
  {
    is: "port 0",
    text: "METADATA_PORT=0",
    says: ['0.conf:1: METADATA_PORT: expected a port from 1 to 65535, got "0".'],
  },
  {
    is: "an IPv6 address for IPv4",
    text: "METADATA_IPV4=fd00::1",
    says: ['0.conf:1: METADATA_IPV4: expected an IPv4 address, got "fd00::1". EC2 uses 169.254.169.254.'],
  },
  {
    is: "an IPv4 address in IPv6 notation",
    text: "METADATA_IPV6=::ffff:169.254.169.254\nPROXY_ADDRESS=172.17.0.1 ::ffff:172.17.0.1",
    says: [
      "0.conf:1: METADATA_IPV6: ::ffff:169.254.169.254 is the IPv4 address 169.254.169.254. EC2 uses fd00:ec2::254.",
      '0.conf:2: PROXY_ADDRESS: expected at most one address of each family, got "172.17.0.1 ::ffff:172.17.0.1"; ::ffff:172.17.0.1 is 172.17.0.1.',
    ],
  },
  {
    is: "an IPv4 address for IPv6",
    text: "METADATA_IPV6=10.0.0.1",
    says: ['0.conf:1: METADATA_IPV6: expected an IPv6 address, got "10.0.0.1". EC2 uses fd00:ec2::254.'],
  },
  {
    is: "a loopback address for the proxy",
    text: "PROXY_ADDRESS=127.0.0.1",
    says: [
      "0.conf:1: PROXY_ADDRESS: 127.0.0.1 cannot be reached from a bridge. Write an address of another interface, or none.",
    ],
  },
  {
    is: "two proxy addresses of one family",
    text: "PROXY_ADDRESS=10.0.0.1 10.0.0.2",
    says: ['0.conf:1: PROXY_ADDRESS: expected at most one address of each family, got "10.0.0.1 10.0.0.2".'],
  },
  {
    is: "a host name for the proxy",
    text: "PROXY_ADDRESS=localhost",
    says: [
      '0.conf:1: PROXY_ADDRESS: expected an IPv4 address, an IPv6 address or one of each, got "localhost".',
    ],
  },
  {
    is: "an IPv6 address with a zone",
    text: "METADATA_IPV6=fe80::1%eth0\nPROXY_ADDRESS=fe80::1%eth0",
    says: [
      '0.conf:1: METADATA_IPV6: expected an IPv6 address, got "fe80::1%eth0". EC2 uses fd00:ec2::254.',
      '0.conf:2: PROXY_ADDRESS: expected an IPv4 address, an IPv6 address or one of each, got "fe80::1%eth0".',
    ],
  },
  {
    is: "the metadata address for the proxy",
    text: "PROXY_ADDRESS=169.254.169.254",
    says: [
      "0.conf:1: PROXY_ADDRESS: 169.254.169.254 is the metadata address itself. Write the address that the proxy listens on.",
    ],
  },
  {
    is: "all users and one more",
    text: "HOST_ACCESS=root all",
    says: ['0.conf:1: HOST_ACCESS: expected all, root or user names, got "all".'],
  },
  {
    is: "a backend that does not exist",
    text: "BACKEND=pf",
    says: ['0.conf:1: BACKEND: expected auto, nftables or iptables, got "pf".'],
  },
  {
    is: "a choice that does not exist",
    text: "FORWARDED=accept\nIPV6=on\nREJECT_INSTEAD_OF_DROP=maybe",
    says: [
      '0.conf:1: FORWARDED: expected drop or listed, got "accept".',
      '0.conf:2: IPV6: expected auto or off, got "on".',
      '0.conf:3: REJECT_INSTEAD_OF_DROP: expected yes or no, got "maybe".',
    ],
  },
];

for (const { is, text, says } of bad) {
  t.test(`${is} is a problem`, (t) => {
    const parsed = parse(text);
    t.notOk(parsed.ok, "it is rejected");
    if (!parsed.ok) t.strictSame(parsed.problems.map(problemLine), says);
    t.end();
  });
}

import t from "tap";
import { staticsOf } from "../../../src/commands/statics.ts";
import { canonicalAddress } from "../../../src/config/address.ts";
import { Directory } from "../../../src/containers/directory.ts";
import { problemsIn, role, validConfig } from "./fixture.ts";

for (const partition of [
  "aws",
  "aws-cn",
  "aws-us-gov",
  "aws-eusc",
  "aws-iso",
  "aws-iso-b",
  "aws-iso-e",
  "aws-iso-f",
] as const) {
  t.test(`a role ARN of partition ${partition}, with a path, is accepted`, (t) => {
    const arn = `arn:${partition}:iam::123456789012:role/team/x/My+Role=,.@-_`;
    t.same(problemsIn({ aliasToARN: { a: arn } }), []);
    t.end();
  });
}

const invalid: readonly [string, string | object, RegExp][] = [
  [
    "a static container without an address",
    { staticContainers: { vm: { name: "vm" } } },
    /expected an IP address, got "vm"/,
  ],
  ["a port out of range", { listen: ":70000" }, /listen: expected :PORT.*got ":70000"/],
  ["a path in the endpoint", { metadataEndpoint: "http://169.254.169.254/latest" }, /without a path/],
  ["a policy that is not JSON", { defaultPolicy: "{" }, /expected a policy as JSON/],
  ["a policy without Statement", { defaultPolicy: "{}" }, /this has no Statement/],
  [
    "a policy over 2048 characters",
    { defaultPolicy: JSON.stringify({ Statement: ["x".repeat(2048)] }) },
    /at most 2048 characters; this has 20\d\d/,
  ],
  ["a policy in characters that STS refuses", { defaultPolicy: '{"Statement":"→"}' }, /Latin-1/],
  [
    "an ARN with a region",
    { aliasToARN: { a: "arn:aws:iam:eu-west-1:123456789012:role/x" } },
    /IAM ARNs have no region/,
  ],
  [
    "an ARN of a user",
    { aliasToARN: { a: "arn:aws:iam::123456789012:user/x" } },
    /does not start with role\//,
  ],
  ["an allowRoleArns that allows everything", { allowRoleArns: ["*"] }, /expected a glob for role ARNs/],
  ["an alias that looks like an ARN", { aliasToARN: { "arn:aws:x": role } }, /expected an alias/],
];

for (const [name, text, expected] of invalid) {
  t.test(`${name} is one problem with a matching message`, (t) => {
    const found = problemsIn(text);
    t.equal(found.length, 1, found.join("\n"));
    t.match(found[0], expected);
    t.end();
  });
}

const spellings: readonly [written: string, remoteAddress: string, id: string][] = [
  ["10.0.0.5", "10.0.0.5", "static:10.0.0.5"],
  ["10.0.0.5", "::ffff:10.0.0.5", "static:10.0.0.5"],
  ["0:0:0:0:0:0:0:1", "::1", "static:::1"],
  ["::0001", "::1", "static:::1"],
  ["::ffff:127.0.0.2", "127.0.0.2", "static:127.0.0.2"],
  ["::FFFF:7f00:2", "127.0.0.2", "static:127.0.0.2"],
  ["0:0:0:0:0:ffff:10.0.0.5", "::ffff:10.0.0.5", "static:10.0.0.5"],
  ["2001:DB8:0:0:0:0:0:A", "2001:db8::a", "static:2001:db8::a"],
  ["fd00::0001:0", "fd00::1:0", "static:fd00::1:0"],
  ["fe80::1", "fe80::1%eth0", "static:fe80::1"],
];

for (const [address, remote, id] of spellings) {
  t.test(`a caller from ${remote} is found under the key ${address}`, (t) => {
    const config = validConfig({ staticContainers: { [address]: { name: "vm" } } });
    const found = new Directory({ statics: staticsOf(config) }).at(canonicalAddress(remote) ?? "");
    t.match(found, { kind: "container", container: { id, name: "vm" } });
    t.end();
  });
}

const never: readonly [string, RegExp][] = [
  ["0.0.0.0", /in 0\.0\.0\.0\/8/],
  ["0.1.2.3", /in 0\.0\.0\.0\/8/],
  ["::", /the unspecified address/],
  ["0:0:0:0:0:0:0:0", /the unspecified address/],
  ["::ffff:0.0.0.0", /in 0\.0\.0\.0\/8/],
  ["255.255.255.255", /broadcast/],
  ["224.0.0.1", /multicast/],
  ["239.255.255.250", /multicast/],
  ["::ffff:224.0.0.1", /multicast/],
  ["ff02::1", /multicast/],
  ["FF05::2", /multicast/],
  ["169.254.169.254", /metadata service/],
  ["::ffff:169.254.169.254", /metadata service/],
  ["fd00:ec2::254", /metadata service/],
  ["fd00:0ec2:0::0254", /metadata service/],
  ["fe80::1%eth0", /without a zone/],
  ["10.0.0.5/24", /without a prefix length/],
  ["fd00::5/64", /without a prefix length/],
  ["10.0.0.05", /without leading zeros/],
  ["010.0.0.5", /without leading zeros/],
  ["10.0.0.256", /from 0 to 255/],
  ["10.0.5", /expected an IP address/],
  ["0x0a.0.0.5", /expected an IP address/],
  ["[::1]", /expected an IP address/],
  ["::1 ", /expected an IP address/],
  ["constructor", /expected an IP address/],
  ["", /expected an IP address/],
];

for (const [address, expected] of never) {
  t.test(`"${address}" cannot be the address of a caller`, (t) => {
    const found = problemsIn({ staticContainers: { [address]: { name: "vm" } } });
    t.equal(found.length, 1);
    const [message, hint] = found[0]?.split("|") ?? [];
    t.match(message, expected);
    t.match(hint, /^Meaning: Addresses that no engine manages/);
    t.end();
  });
}

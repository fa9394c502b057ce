import { node, repository } from "./host.ts";

type HostFile = { readonly path: string; readonly content: string; readonly mode: string };

/**
 * The files that connect AWS to the host: a script that creates the link, its unit, and the stand-in's unit.
 */
export function awsFiles(args: readonly string[]): readonly HostFile[] {
  return [
    { path: "/usr/local/lib/testhost/aws-network", content: networkScript, mode: "0755" },
    { path: "/etc/systemd/system/testhost-aws-network.service", content: networkUnit, mode: "0644" },
    { path: "/etc/systemd/system/testhost-aws.service", content: standInUnit(args), mode: "0644" },
  ];
}

const networkScript = `#!/bin/sh
set -eu
ip netns add aws
ip link add veth-aws type veth peer name eth0 netns aws
ip -n aws link set lo up

ip addr add 10.200.0.1/24 dev veth-aws
ip -n aws addr add 10.200.0.2/24 dev eth0
ip -n aws addr add 169.254.169.254/32 dev eth0
# nodad: usable at once. No other host can have these addresses.
ip addr add fd00:200::1/64 dev veth-aws nodad
ip -n aws addr add fd00:200::2/64 dev eth0 nodad
ip -n aws addr add fd00:ec2::254/128 dev eth0 nodad
ip link set veth-aws up
ip -n aws link set eth0 up

ip -n aws route add default via 10.200.0.1
ip -n aws -6 route add default via fd00:200::1
ip route add 169.254.169.254/32 via 10.200.0.2 dev veth-aws
ip -6 route add fd00:ec2::254/128 via fd00:200::2 dev veth-aws

# A Docker host forwards packets. Docker enables that for IPv4, but not always for IPv6.
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
`;

const networkUnit = `[Unit]
Description=Link to AWS
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target network.target docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/testhost/aws-network
`;

function standInUnit(args: readonly string[]): string {
  const main = `${node} ${repository}/test/support/aws/main.ts`;
  const addresses =
    "--imds 169.254.169.254:80 --imds6 [fd00:ec2::254]:80 --sts 10.200.0.2:80 --control 10.200.0.2:81";
  return `[Unit]
Description=AWS stand-in (IMDS and STS)
Requires=testhost-aws-network.service
After=testhost-aws-network.service

[Service]
ExecStart=${main} ${addresses} ${args.join(" ")}
NetworkNamespacePath=/run/netns/aws
Restart=on-failure

[Install]
WantedBy=multi-user.target
`;
}

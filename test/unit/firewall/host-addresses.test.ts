import t from "tap";
import { parseAddresses } from "../../../src/firewall/host-addresses.ts";

t.test(
  "the host's addresses are those of all interfaces, without the link-local ones of bridge ports",
  (t) => {
    const text = `1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet6 ::1/128 scope host
2: ens5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9001 qdisc mq state UP group default qlen 1000
    inet 10.0.0.5/24 metric 512 brd 10.0.0.255 scope global dynamic ens5
       valid_lft 3001sec preferred_lft 3001sec
    inet6 2600:1f18::5/128 scope global dynamic noprefixroute
    inet6 fe80::8ff:fe00:5/64 scope link
3: docker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0
    inet6 fe80::42:acff:fe11:1/64 scope link tentative
9: veth1@if8: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master docker0 state UP group default
    inet6 fe80::1c2b:3dff:fe4e:5f60/64 scope link
10: wg0: <POINTOPOINT,NOARP,UP,LOWER_UP> mtu 1420 qdisc noqueue state UNKNOWN group default qlen 1000
    inet 10.99.0.1 peer 10.99.0.2/32 scope global wg0
11: bond0.5@bond0: <BROADCAST> mtu 1500 qdisc noop master vrf0 state DOWN group default qlen 1000
    inet 10.50.0.1/24 scope global bond0.5
`;
    t.strictSame(parseAddresses(text), [
      "127.0.0.1",
      "::1",
      "10.0.0.5",
      "2600:1f18::5",
      "fe80::8ff:fe00:5",
      "172.17.0.1",
      "fe80::42:acff:fe11:1",
      "10.99.0.1",
      "10.50.0.1",
    ]);
    t.end();
  },
);

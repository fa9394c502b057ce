import { attackOn } from "./on-host.ts";

// Which layer stops what does not depend on the release. That all of them together do, may: nftables, ebtables and the engine are others.
await attackOn("trixie", { columns: ["none", "all", "all, iptables"] });

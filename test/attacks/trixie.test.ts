import { attackOn } from "./on-host.ts";

// Which layer stops which attack does not depend on the release, so only the full set is repeated here:
// nftables, ebtables and the engine have other versions.
await attackOn("trixie", { columns: ["none", "all", "iptables"] });

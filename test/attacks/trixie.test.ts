import { attackOn } from "./on-host.ts";

// Which layer stops what does not depend on the release; that all of them together do, may: nftables and the engine are others.
await attackOn("trixie", { eachLayer: false });

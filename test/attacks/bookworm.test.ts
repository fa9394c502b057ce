import { attackOn } from "./on-host.ts";

await attackOn("bookworm", { eachLayer: true });

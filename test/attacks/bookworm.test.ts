import { attackOn } from "./on-host.ts";

await attackOn("bookworm", { columns: ["none", "all", "-redirected", "-host", "-proof"] });

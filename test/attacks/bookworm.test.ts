import { attackOn } from "./on-host.ts";

await attackOn("bookworm", {
  columns: ["none", "all", "-proof", "-lock", "-lock-redirected", "-lock-host", "-lock-proof"],
});

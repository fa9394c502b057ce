import t from "tap";
import { iptablesDisturbances, survivesDisturbances } from "../support/host/firewall-disturbances.ts";
import { canBoot } from "../support/host/requirements.ts";

if (canBoot(t)) {
  t.test("bookworm, iptables-nft: whatever is done to the host, the rules come back and nothing leaks", (t) =>
    survivesDisturbances(t, {
      suite: "bookworm",
      filter: "iptables-nft",
      disturbances: iptablesDisturbances,
    }),
  );
}

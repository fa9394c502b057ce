import t from "tap";
import { allDisturbances, survivesDisturbances } from "../support/host/firewall-disturbances.ts";
import { canBoot } from "../support/host/requirements.ts";

if (canBoot(t)) {
  t.test("bookworm, nftables: the rules return after every disturbance of the host, and nothing leaks", (t) =>
    survivesDisturbances(t, { suite: "bookworm", filter: "nftables", disturbances: allDisturbances }),
  );
}

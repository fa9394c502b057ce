import t from "tap";
import { breakAndListen } from "../support/host/break-and-listen.ts";
import { canBoot } from "../support/host/requirements.ts";

if (canBoot(t))
  t.test("on trixie, whatever is wrong, the product says so", (t) => breakAndListen(t, "trixie"));

import t from "tap";
import { linkInfo, parseListing } from "../../../src/firewall/ip-listing.ts";

t.test("objects of a JSON list are taken, and an empty answer is an empty list", async (t) => {
  t.same(parseListing('[{"ifname":"eth0"},null,1]\n'), [{ ifname: "eth0" }]);
  t.same(parseListing("\n"), []);
  t.throws(() => parseListing("{}"), /ip printed no list/);
  t.throws(() => parseListing("Usage: ip"));
});

t.test("control characters in a name, which ip does not escape, hide nothing", async (t) => {
  t.same(parseListing('[{"ifname":"a\u0001b"},\n{"ifname":"c"}]'), [{ ifname: "a b" }, { ifname: "c" }]);
});

t.test("a link without driver or settings has none", async (t) => {
  t.same(linkInfo({ linkinfo: { info_kind: "bridge", info_data: { ageing_time: 1 } } }), {
    kind: "bridge",
    settings: { ageing_time: 1 },
  });
  for (const link of [{}, { linkinfo: null }, { linkinfo: { info_data: 1 } }])
    t.same(linkInfo(link), { kind: undefined, settings: {} });
});

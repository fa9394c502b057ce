import { once } from "node:events";
import { parseArgs } from "node:util";
import { startAws } from "./aws.ts";
import { startControl } from "./control.ts";
import { parseAddress } from "./listen.ts";

/**
 * The AWS stand-in as a program. When everything listens, it prints one line of JSON,
 * `{"imds":[url],"sts":url,"control":url}`. It runs until SIGTERM or SIGINT.
 *
 *     node test/support/aws/main.ts --imds 169.254.169.254:80 --imds6 [fd00:ec2::254]:80 \
 *       --sts 10.200.0.2:80 --control 10.200.0.2:81
 *
 * `--http-tokens optional` allows IMDSv1, `--keep-alive` keeps connections to IMDS open (for benchmarks),
 * `--strict` does not normalise paths. The default for an address is a free port on loopback.
 */
const { values } = parseArgs({
  options: {
    imds: { type: "string", multiple: true, default: ["127.0.0.1:0"] },
    imds6: { type: "string", multiple: true, default: [] },
    sts: { type: "string", default: "127.0.0.1:0" },
    control: { type: "string", default: "127.0.0.1:0" },
    "http-tokens": { type: "string", default: "required" },
    "keep-alive": { type: "boolean", default: false },
    strict: { type: "boolean", default: false },
  },
});

const stopped = Promise.race([once(process, "SIGTERM"), once(process, "SIGINT")]);
await using aws = await startAws({
  imds: {
    listen: [...values.imds, ...values.imds6].map(parseAddress),
    httpTokens: values["http-tokens"] === "optional" ? "optional" : "required",
    keepAlive: values["keep-alive"],
    generous: !values.strict,
  },
  sts: { listen: [parseAddress(values.sts)] },
});
const control = await startControl(aws, parseAddress(values.control));
const ready = { imds: aws.imds.urls, sts: aws.sts.url, control: control.urls[0] };
process.stdout.write(`${JSON.stringify(ready)}\n`);
await stopped;
await control.close();

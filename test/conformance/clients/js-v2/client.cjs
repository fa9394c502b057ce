"use strict";
// AWS SDK for JavaScript v2: EC2MetadataCredentials in default settings. Commands on stdin, an answer in JSON on stdout for each.
process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const { createInterface } = require("node:readline");
const { createRequire } = require("node:module");
// The package is installed beside a copy of the manifest, in the folder that the tool names.
const AWS = createRequire(`${process.env.SDK_FOLDER}/package.json`)("aws-sdk");

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
let held;
const ask = (command) =>
  new Promise((resolve) => {
    if (command === "region") {
      resolve({
        unsupported: "the SDK looks for no region, and MetadataService.request sends no session token",
      });
      return;
    }
    if (held === undefined || command === "credentials") held = new AWS.EC2MetadataCredentials();
    // A service's client calls `get`, which asks IMDS only when the keys are missing or about to expire.
    held[command === "held" ? "get" : "refresh"]((error) =>
      resolve(
        error
          ? { error: `${error.code}: ${error.message}` }
          : {
              accessKeyId: held.accessKeyId,
              secretAccessKey: held.secretAccessKey,
              token: held.sessionToken,
            },
      ),
    );
  });
(async () => {
  say({ ready: `aws-sdk ${AWS.VERSION}` });
  for await (const line of createInterface({ input: process.stdin })) say(await ask(line));
})();

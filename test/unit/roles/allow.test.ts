import type { Container } from "../../../src/containers/container.ts";
import { account, type Case, roleAlias, testCases } from "./cases.ts";

const guarded = (allow: object) => ({ aliases: { g: { roleArn: `${account}/g`, allow } } });
const admits = (is: string, allow: object, container: Partial<Container>, says?: string): Case => ({
  is: `allow: ${is}`,
  config: guarded(allow),
  container: { ...container, labels: { ...container.labels, [roleAlias]: "g" } },
  gets: "g",
  ...(says !== undefined && { says }),
});
const keepsOut = (is: string, allow: object, container: Partial<Container>, says: string): Case => ({
  ...admits(is, allow, container, says),
  is: `allow does not admit: ${is}`,
  gets: "alias-not-allowed",
});
const compose = { "com.docker.compose.project": "shop", "com.docker.compose.service": "cart" };
const digest = `sha256:${"1".repeat(64)}`;
const attachment = (network: string) => ({ network, ipv4: "172.18.0.2", ipv6: undefined, mac: undefined });

// biome-ignore format: a table
const rules: readonly Case[] = [
  admits("an image by name", { images: ["app"] }, { image: "app" }, 'allow.images "app"'),
  admits("an image by registry", { images: ["r.example.com:5000/team/*"] }, { image: "r.example.com:5000/team/app:1" }),
  admits("an image by tag", { images: ["app:1.*"] }, { image: "app:1.2" }),
  admits("an image by digest in its name", { images: [`app@${digest}`] }, { image: `app@${digest}` }),
  admits("an image by its own digest", { images: [digest] }, { image: "app:1", imageId: digest }, digest.slice(0, 30)),
  keepsOut("the image of another registry", { images: ["r.example.com/*"] }, { image: "evil.example/r.example.com/app" }, "evil.example"),
  keepsOut("an image without the tag that the glob wants", { images: ["app:*"] }, { image: "app" }, 'allow.images is "app:*", the container has "app"'),
  keepsOut("an image whose digest happens to match a glob for tags", { images: ["*:1*"] }, { image: "app:2", imageId: digest }, "app:2"),
  keepsOut("an image named like a digest", { images: ["sha256:1*"] }, { image: "sha256:1", imageId: `sha256:${"2".repeat(64)}` }, "sha256:2"),
  keepsOut("a container without an image", { images: ["*"] }, { image: "", imageId: "" }, "has none"),
  admits("a label", { labels: { team: "payments" } }, { labels: { team: "payments" } }, 'allow.labels.team "payments"'),
  admits("a label's glob", { labels: { team: "pay*" } }, { labels: { team: "payments" } }),
  admits("every label", { labels: { team: "p", env: "prod" } }, { labels: { team: "p", env: "prod" } }),
  keepsOut("one of two labels", { labels: { team: "p", env: "prod" } }, { labels: { team: "p" } }, "allow.labels.env"),
  keepsOut("a label in another case", { labels: { team: "p" } }, { labels: { team: "P" } }, '"P"'),
  keepsOut("a missing label, even if the glob matches anything", { labels: { team: "*" } }, {}, "has none"),
  admits("a compose project", { composeProjects: ["shop"] }, { labels: compose }),
  keepsOut("another compose project", { composeProjects: ["bank"] }, { labels: compose }, '"shop"'),
  keepsOut("no compose project", { composeProjects: ["*"] }, {}, "allow.composeProjects"),
  admits("a compose service", { composeServices: ["c*"] }, { labels: compose }),
  keepsOut("another compose service", { composeServices: ["db"] }, { labels: compose }, '"cart"'),
  admits("one of its networks", { networks: ["back_*"] }, { attachments: [attachment("bridge"), attachment("back_end")] }),
  keepsOut("other networks", { networks: ["back_*"] }, { attachments: [attachment("bridge")] }, '"bridge"'),
  keepsOut("no network", { networks: ["*"] }, { attachments: [] }, "allow.networks"),
  admits("a user", { users: ["1000:*", "app"] }, { user: "1000:1000" }),
  keepsOut("root by another name", { users: ["root"] }, { user: "0" }, "allow.users"),
  admits("an image and a project and a user", { images: ["app*"], composeProjects: ["shop"], users: ["app"] }, { image: "app:1", labels: compose, user: "app" }, 'allow.users "app"'),
  keepsOut("an image and not the project", { images: ["app*"], composeProjects: ["bank"] }, { image: "app:1", labels: compose }, "composeProjects"),
  { is: "a default alias with an allow that does not admit the container", config: { ...guarded({ images: ["app"] }), defaultAlias: "g" }, gets: "alias-not-allowed", by: "defaultAlias" },
  { is: "a default alias with an allow that does", config: { ...guarded({ images: ["nginx"] }), defaultAlias: "g" }, gets: "g" },
];

// An alias with `allow` is only for containers that match all its rules.
testCases(rules);

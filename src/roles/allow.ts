import type { AllowConfig } from "../config/schema.ts";
import type { Container } from "../containers/container.ts";
import { printable, quote } from "../text.ts";
import { type Glob, glob } from "./glob.ts";
import { composeProject, composeService, label } from "./request.ts";

/** One rule in the `allow` of an alias. */
export type AllowRule = {
  /** The key below `allow`: `images`, `labels.team`. */
  readonly key: string;
  readonly globs: readonly Glob[];
  /** The values to match a glob with. If the container has none, even `*` does not match. */
  values(container: Container, glob: Glob): readonly string[];
};

/** Whether the `allow` of an alias admits a container, and why. */
export type Admission =
  | { readonly admitted: true /** `allow.images "app:*", allow.users "app"`. */; readonly by: string }
  | { readonly admitted: false; readonly reason: string };

/** Undefined if the alias is open to every container. */
export function allowRules(allow: AllowConfig | undefined): readonly AllowRule[] | undefined {
  if (allow === undefined) return undefined;
  const rules: (AllowRule | undefined)[] = [
    rule("images", allow.images, imageNames),
    ...Object.entries(allow.labels ?? {}).map(([name, pattern]) =>
      rule(`labels.${name}`, [pattern], (container) => present(label(container, name))),
    ),
    rule("composeProjects", allow.composeProjects, (container) => present(composeProject(container))),
    rule("composeServices", allow.composeServices, (container) => present(composeService(container))),
    rule("networks", allow.networks, (container) => container.attachments.map(({ network }) => network)),
    rule("users", allow.users, (container) => [container.user]),
  ];
  return rules.filter((each) => each !== undefined);
}

/** Every rule must match, by at least one of its globs. */
export function admit(container: Container, rules: readonly AllowRule[] | undefined): Admission {
  if (rules === undefined) return { admitted: true, by: "no allow: open to every container" };
  // `allow: { "labels": {} }` has no rules. It must not open the alias to every container.
  if (rules.length === 0) return { admitted: false, reason: "allow has no rules, so it admits no container" };
  const by: string[] = [];
  for (const { key, globs, values } of rules) {
    const match = globs.find((glob) => values(container, glob).some((value) => glob.matches(value)));
    if (match === undefined) {
      const patterns = globs.map((glob) => quote(glob.text)).join(", ");
      const found = [...new Set(globs.flatMap((glob) => values(container, glob)))]
        .slice(0, 8)
        .map(quote)
        .join(", ");
      const reason = `allow.${key} is ${patterns}, the container has ${found === "" ? "none" : found}`;
      return { admitted: false, reason };
    }
    by.push(`allow.${key} ${quote(match.text)}`);
  }
  return { admitted: true, by: by.join(", ") };
}

function rule(
  key: string,
  patterns: readonly string[] | undefined,
  values: AllowRule["values"],
): AllowRule | undefined {
  return patterns === undefined ? undefined : { key: printable(key), globs: patterns.map(glob), values };
}

/**
 * The image name as written; for a glob that starts with `sha256:`, the image's digest instead, which no
 * other image has. Never both for one glob: `*:1*` means a tag, and would match one digest in sixteen.
 */
function imageNames(container: Container, { text }: Glob): readonly string[] {
  const name = text.startsWith("sha256:") ? container.imageId : container.image;
  return name === "" ? [] : [name];
}

function present(value: string | undefined): readonly string[] {
  return value === undefined ? [] : [value];
}

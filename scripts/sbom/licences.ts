import type { BundledPackage } from "./packages.ts";

/**
 * The components of the executable with their licences, then the text of each licence once, with the
 * components that use it.
 */
export function licenceList(packages: readonly BundledPackage[]): string {
  const table = packages.map(
    ({ name, version, licence }) => `  ${`${name} ${version}`.padEnd(56)}${licence}`,
  );
  const byText = Map.groupBy(
    packages.filter(({ licenceText }) => licenceText !== ""),
    ({ licenceText }) => licenceText,
  );
  const texts = [...byText].map(([text, of]) => {
    const heading = of.map(({ name, version }) => `${name} ${version}`).join(", ");
    return `${"=".repeat(80)}\n${heading}\n${"=".repeat(80)}\n\n${text}\n`;
  });
  return [
    "Software of others in the executable of ec2metaproxy and in notify.node:",
    "",
    ...table,
    "",
    "Node.js itself holds further software; its licence text below lists it.",
    "",
    ...texts,
  ].join("\n");
}

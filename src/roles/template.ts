import type { Container } from "../containers/container.ts";
import { composeProject, composeService } from "./request.ts";

/** Templates for session names, source identities and tag values. */

const placeholders = [
  "name",
  "id",
  "image",
  "composeProject",
  "composeService",
  "alias",
  "instanceId",
] as const;
type Placeholder = (typeof placeholders)[number];
export type TemplateValues = Readonly<Record<Placeholder, string>>;

export type Template = {
  readonly text: string;
  readonly parts: readonly (string | { readonly placeholder: Placeholder })[];
};

/** What STS accepts for a parameter (botocore's model of AssumeRole). */
type Limits = { readonly min: number; readonly max: number; readonly refused: RegExp };
/**
 * Also for source identities. Since a colon is not allowed, none can start with the reserved prefix `aws:`.
 */
const sessionName: Limits = { min: 2, max: 64, refused: /[^\w+=,.@-]/gu };
const tagValue: Limits = { min: 0, max: 256, refused: /[^\p{L}\p{Z}\p{N}_.:/=+\-@]/gu };

/** Why a text is not a valid template; undefined if it is. */
export function templateProblem(text: string): string | undefined {
  const known = placeholders.map((name) => `{${name}}`).join(" ");
  const unknown = [...text.matchAll(/\{([^{}]*)\}/g)].find(([, name = ""]) => !isPlaceholder(name));
  if (unknown !== undefined) return `expected a template with ${known}, found ${unknown[0]}`;
  const rest = text.replace(/\{[^{}]*\}/g, "");
  if (rest.includes("{")) return `expected a template with ${known}, found a { that is not closed`;
  if (rest.includes("}")) return `expected a template with ${known}, found a } without a {`;
  return undefined;
}

/** Throws if `templateProblem` finds one. A loaded configuration has none. */
export function parseTemplate(text: string): Template {
  const problem = templateProblem(text);
  if (problem !== undefined) throw new Error(`reading the template ${text}: ${problem}`);
  const parts = text
    .split(/(\{[^{}]*\})/)
    .filter((part) => part !== "")
    .map((part) => {
      const name = part.slice(1, -1);
      return part.startsWith("{") && isPlaceholder(name) ? { placeholder: name } : part;
    });
  return { text, parts };
}

function isPlaceholder(name: string): name is Placeholder {
  return placeholders.some((known) => known === name);
}

export function templateValues(
  container: Container,
  alias: string | undefined,
  instanceId: string | undefined,
): TemplateValues {
  return {
    name: container.name,
    id: shortId(container.id),
    image: container.image,
    composeProject: composeProject(container) ?? "",
    composeService: composeService(container) ?? "",
    alias: alias ?? "",
    instanceId: instanceId ?? "",
  };
}

/** The 12 digits that `docker ps` shows. The id of a static container is short already and stays as it is. */
export function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id;
}

/** 2 to 64 characters of `[\w+=,.@-]`: for RoleSessionName and SourceIdentity. */
export function renderSessionName(template: Template, values: TemplateValues): string {
  const text = render(template, values, sessionName);
  if (text.length >= sessionName.min) return text;
  // E.g. {composeService} for a container without one. The id at least identifies the container.
  const id = clean(values.id, sessionName);
  return text === "" ? id : `${text}-${id}`;
}

/** At most 256 characters of `[\p{L}\p{Z}\p{N}_.:/=+\-@]`. */
export function renderTagValue(template: Template, values: TemplateValues): string {
  return render(template, values, tagValue);
}

/**
 * Other characters become `-`. If the result is too long, the longest values are truncated first, then the
 * template's own text, and the id last: in `{name}-{id}`, a long name must not remove what distinguishes two
 * containers.
 */
function render(template: Template, values: TemplateValues, limits: Limits): string {
  const parts = template.parts.map((part) => {
    if (typeof part === "string") return { rank: 1, text: clean(part, limits) };
    return { rank: part.placeholder === "id" ? 2 : 0, text: clean(values[part.placeholder], limits) };
  });
  for (const rank of [0, 1, 2]) {
    while (lengthOf(parts) > limits.max) {
      const [longest] = parts
        .filter((part) => part.rank === rank && part.text !== "")
        .sort((one, other) => other.text.length - one.text.length);
      if (longest === undefined) break;
      longest.text = longest.text.replace(/.$/su, "");
    }
  }
  return parts.map((part) => part.text).join("");
}

/** A container may set a value of a megabyte. Only the part that can be used is processed. */
function clean(text: string, limits: Limits): string {
  return text.slice(0, limits.max).replace(limits.refused, "-");
}

function lengthOf(parts: readonly { readonly text: string }[]): number {
  return parts.reduce((sum, part) => sum + part.text.length, 0);
}

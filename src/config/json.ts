import { createScanner, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";

/** A mistake in a text: where it is, what it is, and what to do. */
export type TextProblem = {
  readonly line: number;
  /** Undefined if the text is not JSON. */
  readonly path: readonly PropertyKey[] | undefined;
  readonly message: string;
  readonly hint: string;
};

/** One value as written, whether or not the schema accepts it. */
type WrittenValue = {
  readonly path: readonly string[];
  readonly kind: "object" | "array" | "string" | "other";
  /** The value of a string; undefined for other kinds. */
  readonly text: string | undefined;
  readonly isTrue: boolean;
};

/** A parsed JSON text, with the position of each value. */
export type JsonText = {
  readonly value: unknown;
  /** What JSON allows but a configuration does not. */
  readonly problems: readonly TextProblem[];
  /** The line of the value at a path, or of the nearest enclosing value. */
  line(path: readonly PropertyKey[]): number;
  /** The source text of the value at a path; undefined if there is none. */
  source(path: readonly PropertyKey[]): string | undefined;
  /**
   * Every value whose path matches; `*` matches any key or index. Includes both values of a duplicate key.
   */
  written(...pattern: readonly string[]): readonly WrittenValue[];
};

/** A parsed text, or the problem that makes it invalid JSON. */
export type ParsedJson =
  | { readonly ok: true; readonly json: JsonText }
  | { readonly ok: false; readonly problems: readonly TextProblem[] };

/** Hints for common mistakes in JSON. */
const hints: Readonly<Record<string, string>> = {
  InvalidCommentToken: "JSON has no comments; delete it.",
  PropertyNameExpected: "A comma before a closing brace is not JSON; delete the comma.",
  ValueExpected: "A comma before a closing bracket is not JSON; delete the comma.",
  CommaExpected: "Put a comma between the entries.",
  EndOfFileExpected: "There is text after the end of the object; delete it.",
};

/**
 * A configuration has 6 levels, plus a few in a policy. JSON parsers are recursive and would overflow the
 * stack at 100,000.
 */
const maxDepth = 64;

/**
 * Parses strict JSON. Duplicate keys are problems: `JSON.parse` silently keeps the last one, and a lost alias
 * is a lost rule. So is the key `__proto__`, which objects and the schema drop.
 */
export function parseJson(text: string): ParsedJson {
  const lines = lineFeeds(text);
  const lineAt = (offset: number) => lines.findLine(offset);
  const notJson = (offset: number, message: string, hint: string): ParsedJson => ({
    ok: false,
    problems: [{ line: lineAt(offset), path: undefined, message, hint }],
  });
  const nul = text.indexOf("\0");
  if (nul !== -1) return notJson(nul, "the file contains a NUL byte", "Is it UTF-16? Save it as UTF-8.");
  const deep = tooDeep(text);
  if (deep !== undefined) return notJson(deep, ...depthProblem);

  const errors: ParseError[] = [];
  let tree: Node | undefined;
  try {
    tree = parseTree(text, errors, {
      disallowComments: true,
      allowTrailingComma: false,
      allowEmptyContent: false,
    });
  } catch (error) {
    // On invalid JSON, the parser may nest deeper than our scan did.
    if (error instanceof RangeError) return notJson(0, ...depthProblem);
    throw error;
  }
  if (errors.length > 0 || tree === undefined) {
    // One mistake often causes several errors in a row. The first is the one to fix.
    const [first] = errors;
    const code = first === undefined ? "ValueExpected" : printParseErrorCode(first.error);
    return notJson(
      first?.offset ?? 0,
      `expected JSON, found ${found(text, first)} (${words(code)})`,
      hints[code] ?? "",
    );
  }
  let value: unknown;
  try {
    value = withoutForbidden(text);
  } catch (error) {
    // The two parsers should agree on what JSON is. If they do not, the stricter one decides.
    return notJson(0, `expected JSON (${error instanceof Error ? error.message : String(error)})`, "");
  }
  const problems: TextProblem[] = [];
  const children = new Map<Node, Map<unknown, Node>>();
  look(tree, [], children, (node, path, message, hint) =>
    problems.push({ line: lineAt(node.offset), path, message, hint }),
  );
  const json: JsonText = {
    value,
    problems,
    line: (path) => lineAt(nearest(tree, path, children).node.offset),
    source: (path) => {
      const { node, isExact } = nearest(tree, path, children);
      return isExact ? text.slice(node.offset, node.offset + node.length) : undefined;
    },
    written: (...pattern) => [...matching(tree, pattern, [])],
  };
  return { ok: true, json };
}

const depthProblem = [
  `there are more than ${maxDepth} levels of brackets`,
  "A valid configuration has only a few levels.",
] as const;

/** The offset of the first bracket that is nested too deeply. Works without recursion. */
function tooDeep(text: string): number | undefined {
  const scanner = createScanner(text, true);
  const open: string[] = [];
  for (scanner.scan(); scanner.getTokenLength() > 0; scanner.scan()) {
    const offset = scanner.getTokenOffset();
    const token = text[offset];
    if (token === "{" || token === "[") open.push(token === "{" ? "}" : "]");
    // The parser, too, ignores a closing bracket that does not match.
    else if (token === open.at(-1)) open.pop();
    if (open.length > maxDepth) return offset;
  }
  return undefined;
}

/**
 * Drops the keys that are reported as problems anyway: an own `__proto__` is interpreted differently by
 * different code.
 */
function withoutForbidden(text: string): unknown {
  return JSON.parse(text, (key, value: unknown) => (key === forbiddenKey ? undefined : value));
}

const forbiddenKey = "__proto__";

function found(text: string, error: ParseError | undefined): string {
  const piece =
    error === undefined ? "" : text.slice(error.offset, error.offset + Math.max(1, error.length)).trim();
  return piece === "" ? "the end of the file" : JSON.stringify(piece.slice(0, 40));
}

/** `PropertyNameExpected` -> `property name expected`. */
function words(code: string): string {
  return code.replace(/(?<!^)[A-Z]/g, " $&").toLowerCase();
}

function lineFeeds(text: string): { findLine(offset: number): number } {
  const feeds: number[] = [];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) feeds.push(at);
  return {
    findLine: (offset) => {
      let [low, high] = [0, feeds.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((feeds[middle] ?? 0) < offset) low = middle + 1;
        else high = middle;
      }
      return low + 1;
    },
  };
}

/** Indexes the members of objects, and reports problems with keys and strings. */
function look(
  node: Node,
  path: readonly string[],
  children: Map<Node, Map<unknown, Node>>,
  add: (node: Node, path: readonly string[], message: string, hint: string) => void,
): void {
  const textProblem = typeof node.value === "string" ? characterProblem(node.value) : undefined;
  if (textProblem !== undefined) add(node, path, `the string contains ${textProblem}`, "Delete it.");
  const members = new Map<unknown, Node>();
  for (const [index, child] of (node.children ?? []).entries()) {
    if (node.type !== "object") {
      members.set(index, child);
      look(child, [...path, String(index)], children, add);
      continue;
    }
    const [key, value] = child.children ?? [];
    if (key === undefined || value === undefined) continue;
    const name = String(key.value);
    const here = [...path, name];
    if (members.has(name)) add(key, here, `duplicate key "${name}"`, "Keep only one of them.");
    if (name === forbiddenKey) add(key, here, "a key cannot be named __proto__", "Rename or delete it.");
    const keyProblem = characterProblem(name);
    if (keyProblem !== undefined) add(key, here, `the key contains ${keyProblem}`, "Delete it.");
    members.set(name, value);
    look(value, here, children, add);
  }
  children.set(node, members);
}

/**
 * Both can be written as a JSON escape. An unpaired surrogate is not a character: encoding it as UTF-8
 * replaces it, and names would no longer match.
 */
function characterProblem(text: string): string | undefined {
  if (text.includes("\0")) return "a NUL character";
  return text.isWellFormed() ? undefined : "an unpaired surrogate";
}

/** For a duplicate key, the last value counts, as in `JSON.parse`. */
function nearest(
  tree: Node,
  path: readonly PropertyKey[],
  children: Map<Node, Map<unknown, Node>>,
): { readonly node: Node; readonly isExact: boolean } {
  let node = tree;
  for (const segment of path) {
    const next = children.get(node)?.get(node.type === "array" ? Number(segment) : segment);
    if (next === undefined) return { node, isExact: false };
    node = next;
  }
  return { node, isExact: true };
}

function* matching(node: Node, pattern: readonly string[], path: readonly string[]): Generator<WrittenValue> {
  const [segment, ...rest] = pattern;
  if (segment === undefined) {
    const { type } = node;
    const kind = type === "object" || type === "array" || type === "string" ? type : "other";
    yield {
      path,
      kind,
      text: kind === "string" ? String(node.value) : undefined,
      isTrue: node.value === true,
    };
    return;
  }
  for (const [index, child] of (node.children ?? []).entries()) {
    const [key, value] = node.type === "object" ? (child.children ?? []) : [];
    const name = node.type === "object" ? String(key?.value) : String(index);
    if (segment !== "*" && segment !== name) continue;
    const target = node.type === "object" ? value : child;
    if (target !== undefined) yield* matching(target, rest, [...path, name]);
  }
}

import { createScanner, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";

/** A mistake in a text: where it is, what it is, what to do. */
export type TextProblem = {
  readonly line: number;
  /** Undefined where the text is not even JSON. */
  readonly path: readonly PropertyKey[] | undefined;
  readonly message: string;
  readonly hint: string;
};

/** One value as it is written, whether or not it is what the schema wants there. */
export type WrittenValue = {
  readonly path: readonly string[];
  readonly kind: "object" | "array" | "string" | "other";
  /** Of a string; undefined for the others. */
  readonly text: string | undefined;
  readonly isTrue: boolean;
};

/** A JSON text that was read, and where in it each value stands. */
export type JsonText = {
  readonly value: unknown;
  /** What JSON itself allows and a configuration does not. */
  readonly problems: readonly TextProblem[];
  /** The line of the value at a path, or of the nearest value around it. */
  line(path: readonly PropertyKey[]): number;
  /** The characters of the value at a path, as they stand in the text; undefined where there is none. */
  source(path: readonly PropertyKey[]): string | undefined;
  /** Every value whose path fits; `*` stands for any key or index. Of a key that stands twice, both. */
  written(...pattern: readonly string[]): readonly WrittenValue[];
};

/** Hints for the mistakes that hands make in JSON. */
const hints: Readonly<Record<string, string>> = {
  InvalidCommentToken: "JSON has no comments; delete it.",
  PropertyNameExpected: "A comma before a closing brace is not JSON; delete the comma.",
  ValueExpected: "A comma before a closing bracket is not JSON; delete the comma.",
  CommaExpected: "Put a comma between the entries.",
  EndOfFileExpected: "Something follows the end of the object; delete it.",
};

/** What we read has 6 levels, and a policy in it a few more. What reads JSON is recursive: it must not be given 100,000. */
const maxDepth = 64;

/**
 * Parses strict JSON. `JSON.parse` would keep the last of two equal keys without a word, and a lost alias is a
 * lost rule; so duplicates are problems here. So is the key `__proto__`, which objects and the schema lose.
 */
export function parseJson(text: string): JsonText | readonly TextProblem[] {
  const lines = lineFeeds(text);
  const lineAt = (offset: number) => lines.findLine(offset);
  const noJson = (offset: number, message: string, hint: string): readonly TextProblem[] => [
    { line: lineAt(offset), path: undefined, message, hint },
  ];
  const nul = text.indexOf("\0");
  if (nul !== -1) return noJson(nul, "there is a NUL byte", "Is the file UTF-16? Save it as UTF-8.");
  const deep = tooDeep(text);
  if (deep !== undefined) return noJson(deep, ...depthProblem);

  const errors: ParseError[] = [];
  let tree: Node | undefined;
  try {
    tree = parseTree(text, errors, {
      disallowComments: true,
      allowTrailingComma: false,
      allowEmptyContent: false,
    });
  } catch (error) {
    // What is no JSON may nest deeper for the parser than it does for us.
    if (error instanceof RangeError) return noJson(0, ...depthProblem);
    throw error;
  }
  if (errors.length > 0 || tree === undefined) {
    // One slip makes the parser stumble several times in a row; the first stumble is the one to mend.
    const [first] = errors;
    const code = first === undefined ? "ValueExpected" : printParseErrorCode(first.error);
    return noJson(
      first?.offset ?? 0,
      `expected JSON, found ${found(text, first)} (${words(code)})`,
      hints[code] ?? "",
    );
  }
  let value: unknown;
  try {
    value = withoutForbidden(text);
  } catch (error) {
    // The two parsers should agree on what JSON is; where they do not, the stricter one has the say.
    return noJson(0, `expected JSON (${error instanceof Error ? error.message : String(error)})`, "");
  }
  const problems: TextProblem[] = [];
  const children = new Map<Node, Map<unknown, Node>>();
  look(tree, [], children, (node, path, message, hint) =>
    problems.push({ line: lineAt(node.offset), path, message, hint }),
  );
  return {
    value,
    problems,
    line: (path) => lineAt(nearest(tree, path, children).node.offset),
    source: (path) => {
      const { node, isExact } = nearest(tree, path, children);
      return isExact ? text.slice(node.offset, node.offset + node.length) : undefined;
    },
    written: (...pattern) => [...matching(tree, pattern, [])],
  };
}

const depthProblem = [
  `there are more than ${maxDepth} levels of brackets`,
  "A configuration has a few; delete what is in the innermost.",
] as const;

/** The offset of the first bracket that is nested too deeply; read without recursion. */
function tooDeep(text: string): number | undefined {
  const scanner = createScanner(text, true);
  const open: string[] = [];
  for (scanner.scan(); scanner.getTokenLength() > 0; scanner.scan()) {
    const offset = scanner.getTokenOffset();
    const token = text[offset];
    if (token === "{" || token === "[") open.push(token === "{" ? "}" : "]");
    // What closes nothing ends no level for the parser either.
    else if (token === open.at(-1)) open.pop();
    if (open.length > maxDepth) return offset;
  }
  return undefined;
}

/** Without the keys that were already found to be problems: an object with an own `__proto__` is read in many ways. */
function withoutForbidden(text: string): unknown {
  return JSON.parse(text, (key, value: unknown) => (key === forbiddenKey ? undefined : value));
}

const forbiddenKey = "__proto__";

function found(text: string, error: ParseError | undefined): string {
  const piece =
    error === undefined ? "" : text.slice(error.offset, error.offset + Math.max(1, error.length)).trim();
  return piece === "" ? "the end of the text" : JSON.stringify(piece.slice(0, 40));
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

/** Indexes the objects' members, and says what is wrong with keys and texts. */
function look(
  node: Node,
  path: readonly string[],
  children: Map<Node, Map<unknown, Node>>,
  add: (node: Node, path: readonly string[], message: string, hint: string) => void,
): void {
  const textProblem = typeof node.value === "string" ? characterProblem(node.value) : undefined;
  if (textProblem !== undefined) add(node, path, `${textProblem} in the text`, "Delete it.");
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
    if (members.has(name))
      add(key, here, `the key "${name}" stands twice in one object`, "Keep one of them.");
    if (name === forbiddenKey)
      add(key, here, "a key cannot be called __proto__", "Give it another name, or delete it.");
    const keyProblem = characterProblem(name);
    if (keyProblem !== undefined) add(key, here, `${keyProblem} in the key`, "Delete it.");
    members.set(name, value);
    look(value, here, children, add);
  }
  children.set(node, members);
}

/** JSON can write both by an escape. Half a surrogate pair is no character: written out as UTF-8 it becomes another one, and names would no longer agree. */
function characterProblem(text: string): string | undefined {
  if (text.includes("\0")) return "there is a NUL character";
  return text.isWellFormed() ? undefined : "there is half a surrogate pair";
}

/** The last one of a key that stands twice, as `JSON.parse` reads it. */
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

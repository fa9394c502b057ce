import { getLocation, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import type { Problem } from "../errors.ts";

/** A JSON text that was read, and where in it each value stands. */
export type JsonText = {
  readonly value: unknown;
  /** `file:line` of the value at a path, or of the nearest value around it. */
  line(path: readonly PropertyKey[]): number;
};

/** Hints for the mistakes that hands make in JSON. */
const hints: Readonly<Record<string, string>> = {
  InvalidCommentToken: "JSON has no comments; delete it.",
  PropertyNameExpected: "A comma before a closing brace is not JSON; delete the comma.",
  ValueExpected: "A comma before a closing bracket is not JSON; delete the comma.",
  CommaExpected: "Put a comma between the entries.",
  EndOfFileExpected: "Something follows the end of the object; delete it.",
};

/**
 * Parses strict JSON. `JSON.parse` would keep the last of two equal keys without a word, and a lost alias is a
 * lost rule; so duplicates are problems here.
 */
export function parseJson(text: string, file: string): JsonText | readonly Problem[] {
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, {
    disallowComments: true,
    allowTrailingComma: false,
    allowEmptyContent: false,
  });
  const at = (offset: number) => `${file}:${lineOf(text, offset)}`;
  if (errors.length > 0 || tree === undefined) {
    // One slip makes the parser stumble several times in a row; the first stumble is the one to mend.
    const [first] = errors;
    const code = first === undefined ? "ValueExpected" : printParseErrorCode(first.error);
    return [
      {
        where: at(first?.offset ?? 0),
        message: `expected JSON, found ${found(text, first)} (${words(code)})`,
        hint: hints[code] ?? "",
      },
    ];
  }
  const duplicates = [...duplicateKeys(tree)].map(
    (node): Problem => ({
      where: `${at(node.offset)}: ${getLocation(text, node.offset).path.join(".")}`,
      message: `the key "${String(node.value)}" stands twice in one object`,
      hint: "Keep one of them.",
    }),
  );
  if (duplicates.length > 0) return duplicates;
  return {
    value: JSON.parse(text),
    line: (path) => lineOf(text, nearest(tree, path).offset),
  };
}

function found(text: string, error: ParseError | undefined): string {
  const piece =
    error === undefined ? "" : text.slice(error.offset, error.offset + Math.max(1, error.length)).trim();
  return piece === "" ? "the end of the text" : JSON.stringify(piece.slice(0, 40));
}

/** `PropertyNameExpected` -> `property name expected`. */
function words(code: string): string {
  return code.replace(/(?<!^)[A-Z]/g, " $&").toLowerCase();
}

function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

function* duplicateKeys(node: Node): Generator<Node> {
  const seen = new Set<unknown>();
  for (const child of node.children ?? []) {
    if (node.type === "object") {
      const key = child.children?.[0];
      if (key !== undefined && seen.has(key.value)) yield key;
      seen.add(key?.value);
    }
    yield* duplicateKeys(child);
  }
}

function nearest(tree: Node, path: readonly PropertyKey[]): Node {
  let node = tree;
  for (const segment of path) {
    const next =
      node.type === "object"
        ? node.children?.find((property) => property.children?.[0]?.value === segment)?.children?.[1]
        : node.children?.[Number(segment)];
    if (next === undefined) return node;
    node = next;
  }
  return node;
}

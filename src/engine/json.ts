/** An object of an engine's answer; its values are not known yet. */
export type Fields = Readonly<Record<string, unknown>>;

/** An answer of an engine that has not the shape that the API's documentation gives it. */
export class WireError extends Error {
  constructor(where: string, expected: string, found: unknown) {
    // The value may be a container's secret (a variable): only its type is told.
    const kind = found === null ? "null" : Array.isArray(found) ? "a list" : typeof found;
    super(`reading the engine's answer: ${where}: expected ${expected}, got ${kind}`);
    this.name = "WireError";
  }
}

export function object(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new WireError(where, "an object", value);
  // Checked on the line above: any object can be read by string keys.
  return value as Fields;
}

export function list(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new WireError(where, "a list", value);
  return value;
}

export function string(value: unknown, where: string): string {
  if (typeof value !== "string") throw new WireError(where, "a string", value);
  return value;
}

import { canonicalAddress } from "../config/address.ts";

/** Readers for the JSON that an engine sends. Each checks one value; `where` names it in the error. */

/** An object of an engine's answer. Its values are still unchecked. */
export type Fields = Readonly<Record<string, unknown>>;

/** An engine's answer does not have the shape that the API documentation gives. */
export class JsonShapeError extends Error {
  constructor(where: string, expected: string, found: unknown) {
    // The value may be a secret (a container's variable), so the message has only its type.
    const kind = found === null ? "null" : Array.isArray(found) ? "a list" : typeof found;
    super(`reading the engine's answer: ${where}: expected ${expected}, got ${kind}`);
    this.name = "JsonShapeError";
  }
}

export function object(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new JsonShapeError(where, "an object", value);
  // Checked on the line above: any object can be read by string keys.
  return value as Fields;
}

export function list(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new JsonShapeError(where, "a list", value);
  return value;
}

export function string(value: unknown, where: string): string {
  if (typeof value !== "string") throw new JsonShapeError(where, "a string", value);
  return value;
}

/** A hardware address in lower case. Undefined if there is none, or none of Ethernet's six bytes. */
export function mac(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  const lower = value.toLowerCase();
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(lower) && lower !== "00:00:00:00:00:00" ? lower : undefined;
}

/** The canonical form of an address, which may have a prefix length. Undefined if there is none. */
export function address(value: unknown): string | undefined {
  if (typeof value !== "string" || value === "") return undefined;
  const canonical = canonicalAddress(value.split("/", 1)[0] ?? "");
  // Engines write 0.0.0.0 or :: for "none yet".
  return canonical === "0.0.0.0" || canonical === "::" ? undefined : canonical;
}

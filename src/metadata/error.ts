/**
 * A request to the instance metadata service failed.
 *
 * - `no-answer`: the service could not be reached, did not answer in time, or gave no session token.
 * - `bad-answer`: it answered, but the body cannot be used: too long, cut short or too slow.
 */
export class MetadataError extends Error {
  readonly kind: "no-answer" | "bad-answer";

  constructor(kind: MetadataError["kind"], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "MetadataError";
    this.kind = kind;
  }
}

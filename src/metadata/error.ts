/**
 * A request to the instance metadata service failed.
 *
 * - `no-answer`: the service could not be reached, did not answer in time, or gave no session token.
 * - `bad-answer`: it answered, but the body cannot be used: too long, cut short or too slow.
 */
export class MetadataError extends Error {
  readonly kind: "no-answer" | "bad-answer";
  /** The status of an answer that was no use; 404 also where the service issues no session tokens. */
  readonly status: number | undefined;
  /** Nothing came in time. */
  readonly isLate: boolean;

  constructor(
    kind: MetadataError["kind"],
    message: string,
    { cause, status, isLate = false }: { cause?: unknown; status?: number; isLate?: boolean } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "MetadataError";
    this.kind = kind;
    this.status = status;
    this.isLate = isLate;
  }
}

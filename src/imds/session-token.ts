import { createHmac, createSecretKey, randomBytes, timingSafeEqual } from "node:crypto";
import { constants } from "node:fs";
import { link, open, unlink } from "node:fs/promises";
import { exitCodes, OperatorError } from "../errors.ts";

/**
 * IMDSv2 session tokens. None is stored: each carries its expiry and a MAC that binds it to its container.
 */
export type SessionTokens = {
  /** 56 characters in the form of the service's own: URL-safe base64, `AQA…==`. */
  issue(containerId: string, ttlSeconds: number): string;
  /** Whole seconds until expiry, at least 1; undefined for anything but a valid token of this container. */
  secondsLeft(token: string, containerId: string): number | undefined;
};

/** EC2's limit. */
const maxSeconds = 21_600;
const keyLength = 32;
const versionLength = 2;
const expiryLength = 6;
const headLength = versionLength + expiryLength;
/**
 * 40 bytes are 53 characters and a third of one more. The four unused bits of the 54th must be zero, so that
 * each token has one spelling.
 */
const spelling = /^AQA[A-Za-z0-9_-]{50}[AQgw]==$/;

/**
 * 40 bytes: 1, 0 (version), expiry in seconds since the epoch (6 bytes), HMAC-SHA256 over those 8 and the
 * container's id. The id itself is not in the token, so a leaked token does not reveal its container.
 */
export function sessionTokens(options: { readonly key: Buffer; readonly now: () => number }): SessionTokens {
  const { now } = options;
  // A key object is imported once. A Buffer would be imported for each token, which takes a fifth of the
  // time.
  const key = createSecretKey(options.key);
  const seconds = () => Math.floor(now() / 1000);
  const mac = (head: Buffer, containerId: string) =>
    createHmac("sha256", key).update(head).update(containerId, "utf8").digest();
  return {
    issue(containerId, ttlSeconds) {
      const head = Buffer.alloc(headLength);
      head[0] = 1;
      head.writeUIntBE(seconds() + ttlSeconds, versionLength, expiryLength);
      return `${Buffer.concat([head, mac(head, containerId)]).toString("base64url")}==`;
    },
    secondsLeft(token, containerId) {
      if (!spelling.test(token)) return undefined;
      const bytes = Buffer.from(token, "base64url");
      const head = bytes.subarray(0, headLength);
      if (!timingSafeEqual(bytes.subarray(headLength), mac(head, containerId))) return undefined;
      const left = head.readUIntBE(versionLength, expiryLength) - seconds();
      // Longer than any token is issued for: the clock was set back, and the token would live longer by that
      // much.
      return left > 0 && left <= maxSeconds ? left : undefined;
    },
  };
}

/**
 * Reads the key that signs tokens from a file in the runtime directory, so that tokens stay valid across
 * restarts of the service. Creates it if it does not exist. Whoever can read or write the file can forge
 * tokens, so one that other users can access is refused, not repaired. Rejects with an OperatorError.
 */
export async function readOrCreateKey(path: string): Promise<Buffer> {
  try {
    return (await readKey(path)) ?? (await createKey(path));
  } catch (error) {
    if (error instanceof OperatorError) throw error;
    throw new OperatorError(`reading the session token key ${path}`, {
      exitCode: exitCodes.unavailable,
      hint: "The directory must exist and be writable by the service's user; systemd creates it with RuntimeDirectory=.",
      cause: error,
    });
  }
}

/** Undefined if the file does not exist. */
async function readKey(path: string): Promise<Buffer | undefined> {
  // Without NONBLOCK, a FIFO in its place would block the start forever; without NOFOLLOW, a link could point
  // anywhere.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error.code === "ELOOP" ? unfit(path, "it is a symbolic link") : error;
  });
  if (file === undefined) return undefined;
  try {
    const found = await file.stat();
    if (!found.isFile()) throw unfit(path, "it is not a regular file");
    if (found.uid !== process.getuid?.())
      throw unfit(
        path,
        `it belongs to user ${found.uid}, but the service runs as user ${process.getuid?.()}`,
      );
    const mode = found.mode & 0o777;
    if ((mode & 0o077) !== 0)
      throw unfit(
        path,
        `its mode is ${mode.toString(8).padStart(4, "0")}, so other users may read or write it`,
      );
    if (found.size !== keyLength) throw unfit(path, `it has ${found.size} bytes, not ${keyLength}`);
    const key = Buffer.alloc(keyLength);
    const { bytesRead } = await file.read(key, 0, keyLength, 0);
    if (bytesRead !== keyLength) throw unfit(path, `it ended after ${bytesRead} bytes`);
    return key;
  } finally {
    await file.close();
  }
}

/**
 * Writes a draft and links it into place: the file is never seen half written, and of two concurrent starts
 * one wins and both use its key.
 */
async function createKey(path: string): Promise<Buffer> {
  const draft = `${path}.${process.pid}.${randomBytes(6).toString("hex")}`;
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(randomBytes(keyLength));
    await file.sync();
    await link(draft, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  } finally {
    await file.close();
    await unlink(draft);
  }
  const key = await readKey(path);
  if (key === undefined) throw unfit(path, "it was removed while it was being created");
  return key;
}

function unfit(path: string, why: string): OperatorError {
  return new OperatorError(`reading the session token key ${path}: ${why}`, {
    exitCode: exitCodes.configuration,
    hint: "Delete it: a new one is created at the next start, and clients request new tokens by themselves.",
  });
}

import { connect, type Socket } from "node:net";

/** An answer as received, with one character per byte. */
export type RawAnswer = {
  readonly status: number;
  readonly statusLine: string;
  /** With their case and order kept. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  /** The complete answer. */
  readonly text: string;
  header(name: string): string | undefined;
};

/** A connection that accepts any bytes, and from which answers are read one by one. */
export type Wire = Disposable & {
  readonly socket: Socket;
  write(bytes: string): void;
  /**
   * The next answer. `method` determines whether it has a body. Undefined if the connection ended before a
   * complete answer.
   */
  answer(method?: string): Promise<RawAnswer | undefined>;
  /** Resolves when the other side has closed, with the text that was not read yet. */
  closed(withinMs?: number): Promise<string>;
};

const answerMs = 10_000;

/** @param from the local address, by which the proxy identifies a container */
export function wire(port: number, from = "127.0.0.1", to = "127.0.0.1"): Wire {
  const socket = connect({ host: to, port, localAddress: from });
  let text = "";
  let ended = false;
  const wakers = new Set<() => void>();
  const wake = () => {
    for (const waker of [...wakers]) waker();
  };
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    wake();
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    ended = true;
    wake();
  });
  socket.on("end", () => {
    ended = true;
    wake();
  });
  const until = <V>(look: () => V | undefined, what: string, withinMs = answerMs) =>
    new Promise<V>((resolve, reject) => {
      const timer = setTimeout(() => {
        wakers.delete(check);
        reject(new Error(`no ${what} within ${withinMs} ms; so far: ${JSON.stringify(text.slice(0, 300))}`));
      }, withinMs);
      const check = () => {
        const found = look();
        if (found === undefined) return;
        clearTimeout(timer);
        wakers.delete(check);
        resolve(found);
      };
      wakers.add(check);
      check();
    });
  return {
    socket,
    write: (bytes) => void socket.write(Buffer.from(bytes, "latin1")),
    async answer(method = "GET") {
      const found = await until(() => {
        const parsed = parseAnswer(text, method);
        if (parsed !== undefined) {
          text = text.slice(parsed.text.length);
          return { parsed };
        }
        return ended ? { parsed: undefined } : undefined;
      }, "answer");
      return found.parsed;
    },
    closed: (withinMs) => until(() => (ended ? text : undefined), "end of the connection", withinMs),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/**
 * The first complete answer in a text, or undefined. Needs Content-Length, which the metadata service always
 * sends.
 */
function parseAnswer(text: string, method: string): RawAnswer | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [statusLine = "", ...lines] = text.slice(0, end).split("\r\n");
  const headers = lines.map((line): readonly [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const header = (name: string) => headers.find(([known]) => known.toLowerCase() === name.toLowerCase())?.[1];
  const status = Number(statusLine.slice(9, 12));
  const length = method === "HEAD" || status < 200 ? 0 : Number(header("content-length") ?? 0);
  if (text.length < end + 4 + length) return undefined;
  const body = text.slice(end + 4, end + 4 + length);
  return { status, statusLine, headers, body, text: text.slice(0, end + 4 + length), header };
}

/**
 * One request on a connection of its own. `lines` are header lines; `Host` is added if it is not among them.
 */
export async function ask(
  at: { readonly port: number; readonly from?: string; readonly to?: string },
  method: string,
  target: string,
  lines: readonly string[] = [],
): Promise<RawAnswer> {
  using one = wire(at.port, at.from, at.to);
  one.write(requestText(method, target, lines));
  const answer = await one.answer(method);
  if (answer === undefined) throw new Error(`${method} ${target}: the connection ended without an answer`);
  return answer;
}

export function requestText(method: string, target: string, lines: readonly string[] = []): string {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ["Host: 169.254.169.254"];
  return [`${method} ${target} HTTP/1.1`, ...host, ...lines, "", ""].join("\r\n");
}

import { connect, type Socket } from "node:net";

/** One answer as it stood on the wire, one character a byte. */
export type RawAnswer = {
  readonly status: number;
  readonly statusLine: string;
  /** As they were spelt, in their order. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  /** All of it. */
  readonly text: string;
  header(name: string): string | undefined;
};

/** A connection on which anything can be written, and from which answers are read one by one. */
export type Wire = Disposable & {
  readonly socket: Socket;
  write(bytes: string): void;
  /** The next answer; `method` tells whether it has a body. Undefined when the connection ended before a whole one. */
  answer(method?: string): Promise<RawAnswer | undefined>;
  /** Settles when the other side has closed, with what it said that was not read yet. */
  closed(withinMs?: number): Promise<string>;
};

const answerMs = 10_000;

/** @param from the local address, which is what the proxy knows a container by */
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

/** The first whole answer of a text; undefined where it is not whole yet. Needs Content-Length, which the metadata service always sends. */
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

/** One request on a connection of its own. `lines` are the header lines; `Host` is added unless one of them is. */
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

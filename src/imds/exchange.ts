import type { IncomingMessage, ServerResponse } from "node:http";
import type { Directory } from "../containers/directory.ts";
import type { StsCode } from "../credentials/assume-role.ts";
import { type AccessLog, type AnsweredFrom, reportWhenAnswered } from "./access.ts";
import { type Answer, sendAnswer } from "./answers.ts";
import type { Caller, Callers } from "./callers.ts";
import type { Connection } from "./connection.ts";
import type { Unidentified } from "./identity.ts";
import { type Refusal, type RefusalCode, type RefusedRequest, refusals } from "./refusals.ts";

export type ExchangeDependencies = {
  readonly directory: Pick<Directory, "at">;
  readonly callers: Pick<Callers, "of">;
  /** Called for each refused request. */
  readonly refused: (refused: RefusedRequest) => void;
  /** Undefined unless the configuration is `verbose`. */
  readonly access: AccessLog | undefined;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
};

/** One request and its answer. Each refusal that is sent is also recorded. */
export class Exchange {
  readonly address: string;
  /** The request target as received. */
  readonly target: string;
  readonly response: ServerResponse;
  /** Canonical; undefined before the request is classified, and if it has no canonical form. */
  path: string | undefined;
  from: AnsweredFrom = "proxy";
  /** Whether this is the metadata service, and not the endpoint of `containerCredentials`. */
  isImds = true;
  /** Set once the caller is identified. */
  caller: Caller | undefined;
  /** Of the session token that the client sent, once verified; IMDS repeats it in each answer. */
  tokenSecondsLeft: number | undefined;
  readonly #deps: ExchangeDependencies;
  readonly #answerTo: (refusal: Refusal) => Answer;
  /** Of the access log. */
  readonly #requestId: string | undefined;

  /** @param answerTo how this listener answers a refused request */
  constructor(
    deps: ExchangeDependencies,
    connection: Connection,
    request: IncomingMessage,
    response: ServerResponse,
    answerTo: (refusal: Refusal) => Answer,
  ) {
    this.#deps = deps;
    this.#answerTo = answerTo;
    this.address = connection.address ?? "";
    this.target = request.url ?? "";
    this.response = response;
    this.#requestId =
      deps.access === undefined
        ? undefined
        : reportWhenAnswered(deps.access, this, connection, { request, response, now: deps.now });
  }

  send(answer: Answer): void {
    sendAnswer(this.response, answer, this.tokenSecondsLeft);
  }

  refuse(code: RefusalCode, reason: string): void {
    this.record({ code, reason });
    sendAnswer(this.response, this.#answerTo({ code, reason }));
  }

  refuseUnidentified({ code, reason, caller }: Unidentified): void {
    this.caller = caller;
    if (caller !== undefined) caller.activity.requests += 1;
    // A client whose container is not known gets no second request on this connection.
    if (caller === undefined) this.response.shouldKeepAlive = false;
    this.refuse(code, reason);
  }

  /** For a failure of STS, which has a document of its own. */
  sendFailure(answer: Answer, code: StsCode, reason: string): void {
    this.#record(answer.status, code, reason);
    this.send(answer);
  }

  /** For a refusal that has been answered already. */
  record({ code, reason }: Refusal): void {
    this.#record(refusals[code].status, code, reason);
  }

  #record(status: number, code: RefusalCode | StsCode, reason: string): void {
    let { caller } = this;
    if (caller === undefined) {
      caller = this.#callerAtAddress();
      if (caller !== undefined) caller.activity.requests += 1;
    }
    this.#deps.refused({
      status,
      code,
      reason,
      address: this.address,
      caller,
      path: this.target,
      ...(this.#requestId !== undefined && { requestId: this.#requestId }),
    });
  }

  /** For the log only: before the caller is identified, the container that is known to have the address. */
  #callerAtAddress(): Caller | undefined {
    const lookup = this.#deps.directory.at(this.address);
    return lookup.kind === "container" ? this.#deps.callers.of(lookup.container) : undefined;
  }
}

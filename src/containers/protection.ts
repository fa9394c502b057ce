/** Whether the port lock (docs/firewall.md) keeps everybody else from using a container's addresses. */
export type Protection = {
  /** In force for all of its addresses. */
  readonly locked: boolean;
  /** Why it is not in force; empty where it is. */
  readonly reason: string;
  /** It is being made: whether it comes into force is known in a moment. */
  readonly pending?: true | undefined;
};

/** What is known about the port lock, by container id. */
export type Locks = {
  protectionOf(id: string): Protection;
  /**
   * Waits for news of the container. Resolves with `full` at once if too many already wait. Never rejects.
   */
  news(id: string, timeoutMs: number): Promise<"news" | "timeout" | "full">;
};

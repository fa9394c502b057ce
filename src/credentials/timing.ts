// When credentials are renewed and failed calls are repeated. `random` is in [0, 1).

/**
 * The age at which to renew: at random from half of the lifetime on, in a window that ends well before
 * `neededAge`.
 *
 * The first renewal may come much earlier. Sessions that started together, on one host or on a fleet after a
 * power cut, would otherwise be renewed together all day. This costs one extra call per container.
 */
export function renewalAge(lifetimeMs: number, renewals: number, random: number): number {
  const from = renewals === 0 ? 0.2 : 0.5;
  return lifetimeMs * (from + (0.565 - from) * random);
}

/**
 * The age by which the renewal should be there: 35 minutes of 60. After that, less than 25 minutes are left,
 * which botocore takes for an outage: it then extends the expiry by itself.
 */
export function neededAge(lifetimeMs: number): number {
  return (lifetimeMs * 35) / 60;
}

/**
 * How long a refusal is remembered: 5 s, doubling up to 5 min. A new trust policy takes seconds to work in
 * IAM.
 */
export function refusalMs(refusals: number, random: number): number {
  return Math.min(300_000, 5_000 * 2 ** (refusals - 1)) * (0.8 + 0.4 * random);
}

/**
 * The pause before a failed call is repeated: up to 3 s if a client waits, otherwise up to 60 s; half is
 * jitter.
 */
export function retryMs(
  failures: number,
  options: { readonly waitedFor: boolean; readonly throttled: boolean },
  random: number,
): number {
  const base = options.throttled ? 500 : 100;
  const most = options.waitedFor ? 3_000 : 60_000;
  return Math.min(most, base * 3 ** (failures - 1)) * (0.5 + 0.5 * random);
}

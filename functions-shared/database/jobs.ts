/** Jobs and the re-encryption's chunks, on the database's functions. */
import type { Job, JobFailure, JobStore } from "../admin/jobs.ts";
import type { Chunk, Claim, ReencryptionStore } from "../admin/reencryption-store.ts";
import type { Rpc } from "./rpc.ts";
import { toStored } from "./stores.ts";

export function jobStore(rpc: Rpc): JobStore {
  return {
    async start(actor, kind, options) {
      const { state, job } = await rpc<{ state: "started" | "conflict"; job: Job }>(
        "kms_job_start",
        { p_actor: JSON.stringify(actor), p_kind: kind, p_options: JSON.stringify(options) },
      );
      return { started: state === "started", job };
    },
    async get(id) {
      return await rpc<Job | null>("kms_job_get", { p_id: id }) ?? undefined;
    },
    async next(kind) {
      return await rpc<Job | null>("kms_job_next", { p_kind: kind }) ?? undefined;
    },
    async list(limit, after) {
      const page = await rpc<{ jobs: Job[]; next: string | null }>("kms_jobs_list", {
        p_limit: limit,
        p_before: after ?? null,
      });
      return { items: page.jobs, next: page.next ?? undefined };
    },
    async failures(id, limit, after) {
      const page = await rpc<{ failures: JobFailure[]; next: string | null } | null>(
        "kms_job_failures",
        { p_job_id: id, p_limit: limit, p_before: after ?? null },
      );
      return page === null ? undefined : { items: page.failures, next: page.next ?? undefined };
    },
    async cancel(actor, id) {
      return await rpc<Job | null>("kms_job_cancel", {
        p_actor: JSON.stringify(actor),
        p_id: id,
      }) ?? undefined;
    },
  };
}

/** `onRotation`: branch keys changed since this worker last claimed; it must not write under old ones. */
export function reencryptionStore(rpc: Rpc, onRotation: () => void): ReencryptionStore {
  let epoch: number | undefined;
  return {
    async claim(actor, jobId, targets, limits) {
      const claim = await rpc<(Claim & { readonly epoch: number }) | null>("kms_reencrypt_claim", {
        p_actor: JSON.stringify(actor),
        p_job_id: jobId,
        p_targets: JSON.stringify(targets),
        p_limits: JSON.stringify(limits),
      });
      if (claim === null) return undefined;
      // The first one as well: what this worker has cached may be older than anything it has heard.
      if (epoch === undefined || claim.epoch > epoch) onRotation();
      epoch = Math.max(epoch ?? claim.epoch, claim.epoch);
      return claim;
    },
    async commit(actor, chunk, results) {
      const answer = await rpc<{ state: "stored"; job: Job } | { state: "lost" }>(
        "kms_reencrypt_commit",
        {
          p_actor: JSON.stringify(actor),
          ...lease(chunk),
          p_results: JSON.stringify(
            results.map(({ ciphertext, ...result }) =>
              ciphertext === undefined ? result : { ...result, ciphertext: toStored(ciphertext) }
            ),
          ),
        },
      );
      return answer.state === "stored" ? answer.job : undefined;
    },
    async release(chunk) {
      await rpc("kms_job_release", lease(chunk));
    },
  };
}

function lease({ id, token }: Chunk) {
  return { p_chunk_id: id, p_token: token };
}

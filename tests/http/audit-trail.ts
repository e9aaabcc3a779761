/** The audit trail for tests: days of the past, and what a superuser can do to them. */
import { sql } from "./suite.ts";

export interface Fault {
  readonly day: string;
  readonly seq: number;
  readonly kind: string;
  readonly through?: number;
}

export interface Anchor {
  readonly day: string;
  readonly entries: number;
  readonly prev_hash: string;
  readonly last_seq: number;
  readonly last_hash: string;
  readonly finished: boolean;
  readonly pruned?: boolean;
  readonly signed_at?: string;
  readonly signature?: string;
}

export interface Verified {
  readonly valid: boolean;
  readonly days: number;
  readonly entries: number;
  readonly faults: readonly Fault[];
  readonly fault_count: number;
  readonly anchor: Anchor | null;
  readonly next_cursor: string | null;
}

export type Entry = Readonly<Record<string, string | number | null>>;

export function daysAgo(count: number): string {
  return new Date(Date.now() - count * 86_400_000).toISOString().slice(0, 10);
}

/** Runs the statements, one after another, as a superuser who has switched the table's triggers off. */
export async function tamper(statements: string | string[], table = "audit_log"): Promise<void> {
  await sql(`alter table kms.${table} disable trigger user`);
  try {
    for (const statement of [statements].flat()) await sql(statement);
  } finally {
    await sql(`alter table kms.${table} enable trigger user`);
  }
}

/**
 * Entries of past days, as that many days of use would have left them. Only before anything else is
 * written: whatever comes later follows them.
 */
export async function history(days: readonly string[], perDay: number): Promise<void> {
  const list = days.map((day) => `'${day}'`).join(", ");
  await tamper(`do $$
    declare
      v_entry kms.audit_log;
      v_prev text := repeat('0', 64);
    begin
      if exists (select from kms.audit_log) then
        raise exception 'the trail has begun';
      end if;
      foreach v_entry.chain_day in array array[${list}]::date[] loop
        for n in 1..${perDay} loop
          v_entry.seq := n;
          v_entry.prev_hash := v_prev;
          v_entry.occurred_at := v_entry.chain_day + interval '12 hours' + n * interval '1 second';
          v_entry.actor_type := 'secret_key';
          v_entry.actor_id := 'default';
          v_entry.request_id := gen_random_uuid();
          v_entry.function_name := 'test';
          v_entry.action := 'test.append';
          v_entry.outcome := 'success';
          v_entry.hash := kms.audit_hash(v_entry);
          v_prev := v_entry.hash;
          insert into kms.audit_log select v_entry.*;
        end loop;
      end loop;
    end $$`);
}

/** Chains all entries anew, as somebody would who wants nobody to see what they changed. */
export async function rewriteChain(): Promise<void> {
  await tamper(`do $$
    declare
      v_entry kms.audit_log;
      v_prev text := repeat('0', 64);
    begin
      for v_entry in select * from kms.audit_log order by chain_day, seq loop
        v_entry.prev_hash := v_prev;
        v_prev := kms.audit_hash(v_entry);
        update kms.audit_log set prev_hash = v_entry.prev_hash, hash = v_prev
        where (chain_day, seq) = (v_entry.chain_day, v_entry.seq);
      end loop;
    end $$`);
}

/** A copy of an entry, with the changes given, as statements for `tamper`. */
export function copied(from: string, changes: string): string[] {
  return [
    `create table public.copied as select * from kms.audit_log where ${from}`,
    `update public.copied set ${changes}`,
    "insert into kms.audit_log select * from public.copied",
    "drop table public.copied",
  ];
}

/** Does something to the trail, looks at it, and puts everything back as it was. */
export async function undone(look: () => Promise<void>): Promise<void> {
  await sql("create table public.trail_before as select * from kms.audit_log");
  try {
    await look();
  } finally {
    await tamper("delete from kms.audit_log");
    await tamper("insert into kms.audit_log select * from public.trail_before");
    await sql("drop table public.trail_before");
  }
}

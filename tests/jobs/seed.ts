/** Many rows at once, past the functions: each message is a real one all the same. */
import type postgres from "postgres";
import { fieldsOf, identityOf, type Row, type worker } from "./suite.ts";

const BATCH = 1000;

export async function seed(
  admin: postgres.Sql,
  seal: ReturnType<typeof worker>["seal"],
  counts: { readonly owners: number; readonly cards: number; readonly records: number },
): Promise<readonly Row[]> {
  const owners = Array.from({ length: counts.owners }, () => crypto.randomUUID());
  await admin`insert into auth.users (id) select * from unnest(${owners}::uuid[])`;
  const rows = Array.from({ length: counts.cards + counts.records }, (_, index): Row => ({
    table: index < counts.cards ? "payment_methods" : "encrypted_records",
    id: crypto.randomUUID(),
    owner: owners[index % owners.length] ?? "",
    dataClass: index < counts.cards ? "payment" : index % 2 === 0 ? "pii" : "general",
  }));
  for (let from = 0; from < rows.length; from += BATCH) {
    const batch = rows.slice(from, from + BATCH);
    const sealed = await Promise.all(
      batch.flatMap((row) =>
        fieldsOf(row).map(async (field) => ({
          table_name: row.table,
          record_id: row.id,
          owner_id: row.owner,
          data_class: row.dataClass,
          ...await seal(identityOf(row, field), 0),
        }))
      ),
    );
    await admin`
      insert into public.payment_methods (id, user_id, brand, last4, exp_month, exp_year)
      select r.id, r.owner, 'visa', '4242', 12, 2030
      from jsonb_to_recordset(${JSON.stringify(batch)}::text::jsonb)
        as r (id uuid, owner uuid, "table" text) where r."table" = 'payment_methods'`;
    await admin`
      insert into public.encrypted_records (id, user_id, data_class)
      select r.id, r.owner, r."dataClass"
      from jsonb_to_recordset(${JSON.stringify(batch)}::text::jsonb)
        as r (id uuid, owner uuid, "table" text, "dataClass" text)
      where r."table" = 'encrypted_records'`;
    await admin`
      insert into kms.ciphertexts (table_name, record_id, field, owner_id, data_class, message,
        kms_key_arn, branch_key_id, branch_key_version)
      select * from jsonb_to_recordset(${JSON.stringify(sealed)}::text::jsonb) as r (
        table_name text, record_id uuid, field text, owner_id uuid, data_class text, message text,
        kms_key_arn text, branch_key_id text, branch_key_version text)`;
  }
  return rows;
}

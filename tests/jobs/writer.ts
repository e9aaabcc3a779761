/**
 * A writer of the kill test: changes, deletes and creates rows of its own until its input ends, under the
 * branch keys that were active when it began, whatever is rotated since. Prints a line when it has begun,
 * and at its end what it did.
 */
import {
  actor,
  connect,
  DATABASE,
  fieldsOf,
  identityOf,
  type Ledger,
  type Row,
  worker,
} from "./suite.ts";

const OPTIONAL = ["billing_address", "cardholder_name"];

await using database = connect(Deno.env.get(DATABASE) ?? "");
const { rpc } = database;
const { seal } = worker(rpc);
const who = JSON.stringify(actor(`writer-${Deno.pid}`));

// The first line are its rows; then nothing comes until it is to end.
const input = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).getReader();
let line = "";
while (!line.endsWith("\n")) line += (await input.read()).value ?? "\n";
let rows: Row[] = JSON.parse(line);
let told = false;
const end = input.read().then(() => told = true);

const ledger: Ledger = {};
const pick = () => rows[Math.floor(Math.random() * rows.length)];
let revision = 0;

async function change(row: Row): Promise<void> {
  revision++;
  // In either order: the job must not wait where another waits for it.
  const fields = Math.random() < 0.5 ? OPTIONAL : OPTIONAL.toReversed();
  const sealed = await Promise.all(fields.map((field) => seal(identityOf(row, field), revision)));
  const changed = await rpc("kms_payment_method_update", {
    p_actor: who,
    p_owner_id: row.owner,
    p_id: row.id,
    p_patch: "{}",
    p_ciphertexts: JSON.stringify(sealed),
  });
  if (changed === null) throw new Error(`${row.id} is not there any more`);
  for (const field of fields) ledger[`${row.id} ${field}`] = revision;
}

async function remove(row: Row): Promise<void> {
  const name = row.table === "payment_methods" ? "kms_payment_method_delete" : "kms_record_delete";
  const removed = await rpc(name, { p_actor: who, p_owner_id: row.owner, p_id: row.id });
  if (removed !== true) throw new Error(`${row.id} is not there any more`);
  rows = rows.filter(({ id }) => id !== row.id);
  for (const field of fieldsOf(row)) ledger[`${row.id} ${field}`] = null;
}

async function create(like: Row): Promise<void> {
  revision++;
  const row: Row = {
    ...like,
    table: "encrypted_records",
    id: crypto.randomUUID(),
    dataClass: "pii",
  };
  const item = {
    kind: "record",
    id: row.id,
    owner_id: row.owner,
    data_class: row.dataClass,
    label: null,
    ciphertexts: [await seal(identityOf(row, "data"), revision)],
  };
  await rpc("kms_store", {
    p_actor: who,
    p_items: JSON.stringify([item]),
    p_idempotency: null,
  });
  rows.push(row);
  ledger[`${row.id} data`] = revision;
}

async function write(): Promise<void> {
  const row = pick();
  if (row === undefined) throw new Error("no rows are left");
  const chance = Math.random();
  if (chance < 0.1) await remove(row);
  else if (chance < 0.2) await create(row);
  else if (row.table === "payment_methods") await change(row);
}

// Its branch keys of both classes are in memory from here on.
for (const first of rows.filter(({ table }) => table === "payment_methods").slice(0, 1)) {
  await change(first);
  await create(first);
}
console.log("begun");
while (!told) {
  await write();
  await new Promise((resolve) => setTimeout(resolve, 2));
}
await end;
console.log(JSON.stringify(ledger));

/** A worker of the kill test: works on jobs until there is none. */
import { actor, connect, DATABASE, worker } from "./suite.ts";

await using database = connect(Deno.env.get(DATABASE) ?? "");
const { reencryption } = worker(database.rpc);
while (await reencryption.runNext(actor(`worker-${Deno.pid}`), 60_000) !== null);

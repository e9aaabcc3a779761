/** The plans that Postgres really runs inside the suite's functions, cascades and triggers included. */

import postgres from "postgres";

/** One scan of a table, as a node of a plan. */
export interface Scan {
  /** Name without schema. */
  readonly table: string;
  /** The index it goes by; absent for a scan that reads the whole table. */
  readonly index?: string;
}

/** As Postgres explains it in JSON; only what is read here. */
interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly Plans?: readonly PlanNode[];
}

export interface Explainer extends AsyncDisposable {
  /**
   * Runs a statement in a transaction that is rolled back.
   *
   * @param mode of the plan cache: for these parameters, or for any
   * @returns every scan that it and all it calls made
   */
  scansOf(
    mode: "force_custom_plan" | "force_generic_plan",
    statement: string,
    parameters: readonly (string | null)[],
  ): Promise<Scan[]>;
}

/** @param adminUrl of a superuser, who alone may load auto_explain */
export async function explainer(adminUrl: string): Promise<Explainer> {
  const notices: string[] = [];
  const sql = postgres(adminUrl, {
    max: 1,
    onnotice: ({ message }) => notices.push(message ?? ""),
  });
  await sql.unsafe(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_format = json;
    set auto_explain.log_level = notice`);

  return {
    async scansOf(mode, statement, parameters) {
      const undo = new Error("rolled back");
      await sql.begin(async (sql) => {
        await sql.unsafe(`set local plan_cache_mode = ${mode}`);
        await sql.unsafe("set local role service_role");
        notices.length = 0;
        await sql.unsafe(statement, [...parameters]);
        throw undo;
      }).catch((error) => {
        if (error !== undo) throw error;
      });
      return notices.flatMap((notice) => {
        const [, plan] = notice.split(/^duration: .* plan:\n/);
        return plan === undefined ? [] : scans((JSON.parse(plan) as { Plan: PlanNode }).Plan);
      });
    },
    [Symbol.asyncDispose]: () => sql.end(),
  };
}

/** A bitmap's index and table are two nodes, of which only the lower names the index. */
function scans(node: PlanNode): Scan[] {
  const below = (node.Plans ?? []).flatMap(scans);
  const table = node["Relation Name"];
  const index = node["Index Name"];
  switch (node["Node Type"]) {
    case "Bitmap Heap Scan":
      return below.map(({ index }) => ({ table: table ?? "", ...index ? { index } : {} }));
    case "Bitmap Index Scan":
      return [{ table: "", ...index ? { index } : {} }];
    case "ModifyTable": // no scan, but names its table
      return below;
    case "Tid Scan": // goes straight to the row
      return [{ table: table ?? "", index: "ctid" }, ...below];
    default:
      return table === undefined ? below : [{ table, ...index ? { index } : {} }, ...below];
  }
}

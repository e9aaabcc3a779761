import { accepts } from "./ports.ts";
import { OPERATOR_HEADER } from "./operator.ts";
import { readStackFile, type StackFile } from "./stack-file.ts";
import { startStack } from "./stack.ts";

/** The stack that the demo plays on. */
export interface DemoTarget {
  readonly apiUrl: string;
  readonly publishableKey: string;
  readonly secretKey: string;
  /** One reading statement as the superuser. */
  read<T>(query: string, params: readonly unknown[]): Promise<T[]>;
  close(): Promise<void>;
}

/** The stack that runs on `dataDir`, or else a fresh one in a temporary folder. */
export async function openDemoTarget(
  dataDir: string,
  say: (line: string) => void,
): Promise<DemoTarget> {
  const file = await readStackFile(dataDir);
  if (file?.running && await accepts(Number(new URL(file.api_url).port))) {
    say(`playing on the running stack at ${file.api_url}`);
    return running(file);
  }
  say("no stack is running: starting a fresh one in a temporary folder");
  return await fresh(say);
}

function running(file: StackFile): DemoTarget {
  return {
    apiUrl: file.api_url,
    publishableKey: file.publishable_key,
    secretKey: file.secret_key,
    read: async <T>(query: string, params: readonly unknown[]) => {
      const response = await fetch(`${file.api_url}/_local/sql`, {
        method: "POST",
        headers: { [OPERATOR_HEADER]: file.operator_token, "content-type": "application/json" },
        body: JSON.stringify({ query, params }),
      });
      const answer = await response.json() as { rows: T[]; message?: string };
      if (!response.ok) throw new Error(`/_local/sql: ${answer.message}`);
      return answer.rows;
    },
    close: () => Promise.resolve(),
  };
}

async function fresh(say: (line: string) => void): Promise<DemoTarget> {
  const dataDir = await Deno.makeTempDir({ prefix: "demo-" });
  const remove = () => Deno.remove(dataDir, { recursive: true });
  try {
    const stack = await startStack({ port: 0, awsPort: 0, dataDir, onProgress: say });
    return {
      apiUrl: stack.apiUrl,
      publishableKey: stack.publishableKey,
      secretKey: stack.secretKey,
      read: (query, params) => stack.sql(query, [...params]),
      close: () => stack.close().finally(remove),
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

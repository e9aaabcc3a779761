/** What is run of docs/runbooks.md. */
import { readText } from "../support/repository.ts";

export interface Block {
  readonly label: string;
  readonly code: string;
}

/** Sections by their number, each with its blocks by label, in the order of the page. */
export function readRunbooks(): Map<string, Block[]> {
  return new Map(
    readText("docs/runbooks.md").split(/^## (?=\d\. )/m).slice(1).map((section) => {
      const fences = section.matchAll(/^<!-- runs(?:: (\w+))? -->\n```sh\n([\s\S]*?)^```/gm);
      return [
        section.slice(0, 1),
        [...fences].map(([, label = "steps", code = ""]) => ({ label, code })),
      ];
    }),
  );
}

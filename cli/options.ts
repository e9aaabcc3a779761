/** Options that several commands take. */
import { Option } from "commander";
import { parse } from "./host.ts";

export function dataClassOption(): Option {
  return new Option("--class <class>", "only this class of data")
    .choices(["payment", "pii", "general"]);
}

export function pageOptions(): Option[] {
  return [
    new Option("--limit <count>", "entries a page").argParser(parse.count(1, 100)).default(50),
    new Option("--cursor <cursor>", "of the page before"),
  ];
}

export function periodOptions(): Option[] {
  return [
    new Option("--from <day>", "first day").argParser(parse.day),
    new Option("--to <day>", "last day").argParser(parse.day),
  ];
}

/** Without the members that are undefined. */
export function given<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

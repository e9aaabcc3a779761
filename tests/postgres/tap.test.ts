import { assertEquals } from "@std/assert";
import { readTap } from "./tap.ts";

Deno.test("readTap() accepts a whole, clean run and counts it", () => {
  assertEquals(readTap("1..2\na row|t\nok 1 - one\nok 2 - two\n"), { passed: 2, faults: [] });
});

const FAULTY: [criterion: string, output: string, fault: string][] = [
  ["nothing at all", "", "no plan"],
  ["no plan", "ok 1 - one", "no plan"],
  ["an empty plan", "1..0", "a plan that skips: 1..0"],
  ["a plan that skips", "1..1 # skip no pgTAP\nok 1", "a plan that skips: 1..1 # skip no pgTAP"],
  ["two plans", "1..1\nok 1\n1..1", "a second plan"],
  ["a failure", "1..1\nnot ok 1 - one", "not ok 1 - one"],
  ["too few tests", "1..2\nok 1", "planned 2 tests, ran 1"],
  ["too many tests", "1..1\nok 1\nok 2", "planned 1 tests, ran 2"],
  ["a gap", "1..2\nok 1\nok 3", "out of order, 2 expected: ok 3"],
  ["a skipped test", "1..1\nok 1 # SKIP later", "not run: ok 1 # SKIP later"],
  ["a test to do", "1..1\nnot ok 1 # TODO", "not run: not ok 1 # TODO"],
  ["a bail-out", "1..1\nok 1\nBail out!  gone", "Bail out!  gone"],
];

for (const [criterion, output, fault] of FAULTY) {
  Deno.test(`readTap() finds ${criterion}`, () => {
    assertEquals(readTap(output).faults, [fault]);
  });
}

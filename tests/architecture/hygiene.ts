/** What no file of the repository may hold: secrets, and traces of the machine it was written on. */

/** Test numbers that the networks and their processors publish; no account is behind any. */
const TEST_CARDS = new Set([
  ...["4242424242424242", "4111111111111111", "4012888888881881", "4222222222222"],
  ...["4000056655665556", "4000000000000002", "4000002500003155"],
  ...["5555555555554444", "5105105105105100", "2223003122003222", "5200828282828210"],
  ...["378282246310005", "371449635398431", "378734493671000"],
  ...["6011111111111117", "6011000990139424", "6011981111111113"],
  ...["30569309025904", "38520000023237", "36227206271667", "3056930009020004"],
  ...["3530111333300000", "3566002020360505", "6200000000000005", "6759649826438453"],
  ...["6799990100000000019", "6062826786276634", "6362970000457013"],
]);

/** By first digit, as the networks issue them. */
const CARD_LENGTHS = /^(?:4(?:\d{12}|\d{15}|\d{18})|[25]\d{15}|3\d{13,15}|6\d{15,18})$/;

export interface Finding {
  readonly rule: string;
  /** 1-based. */
  readonly line: number;
}

interface Rule {
  readonly name: string;
  readonly pattern: RegExp;
  /** Matches that are documentation, such as AWS's own example key. */
  readonly harmless?: (match: string) => boolean;
}

// Hosts and folders are put together here, so that this file passes its own check.
const host = (...labels: string[]) => labels.join("\\.");
const folder = (...names: string[]) => `/${names.join("|/")}`;

const RULES: readonly Rule[] = [
  {
    name: "registry host",
    pattern: new RegExp(
      [
        host("registry", "npmjs") + "|" + host("npm", "jsr", "io") + "|" + host("jsr", "io") + "/",
        host("deb", "debian", "org") + "|" + host("deno", "land") + "|" + host("pypi", "org"),
        host("pythonhosted", "org") + "|" + host("proxy", "golang", "org"),
        host("registry", "yarnpkg") + "|" + host("ghcr", "io") + "|" + host("docker", "io"),
      ].join("|"),
    ),
  },
  {
    name: "path of a machine",
    pattern: new RegExp(`(${folder("root", "work", "farm", "Users")}|/home/\\w+)/`),
  },
  {
    name: "AWS access key id",
    pattern: /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/,
    harmless: (match) => match.includes("EXAMPLE") || new Set(match.slice(4)).size === 1,
  },
  {
    name: "AWS secret access key",
    pattern: /secret_?access_?key["']?\s*[:=]\s*["']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])/i,
    harmless: (match) => match.endsWith("EXAMPLEKEY"),
  },
  { name: "private key", pattern: /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/ },
  { name: "Supabase token or secret key", pattern: /\b(?:sbp_[0-9a-f]{40}|sb_secret_[\w-]{20,})/ },
  { name: "signed token", pattern: /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}/ },
  { name: "payment provider key", pattern: /\b[sr]k_live_\w{10,}/ },
  { name: "GitHub token", pattern: /\bgh[pousr]_\w{36}/ },
  { name: "npm token", pattern: /\bnpm_[A-Za-z0-9]{36}\b/ },
  {
    name: "card number that is no published test number",
    pattern: /(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])/,
    harmless: (match) => {
      const digits = match.replace(/\D/g, "");
      return !CARD_LENGTHS.test(digits) || !passesLuhn(digits) || TEST_CARDS.has(digits);
    },
  },
];

function passesLuhn(digits: string): boolean {
  const sum = [...digits].reverse().reduce((total, digit, index) => {
    const value = Number(digit) * (index % 2 === 0 ? 1 : 2);
    return total + (value > 9 ? value - 9 : value);
  }, 0);
  return sum % 10 === 0;
}

/** @returns one finding a rule and line, in the order of the lines */
export function inspect(text: string): Finding[] {
  return text.split("\n").flatMap((content, index) =>
    RULES.flatMap((rule) => {
      const matches = content.match(new RegExp(rule.pattern, rule.pattern.flags + "g")) ?? [];
      return matches.some((match) => !rule.harmless?.(match))
        ? [{ rule: rule.name, line: index + 1 }]
        : [];
    })
  );
}

import type { StackFile } from "./stack-file.ts";

/** Ready-to-paste calls for a shell; `token` is the demo user's. */
export function readyText(file: StackFile, token: string, functions: readonly string[]): string {
  const functionUrl = (name: string) => `${file.api_url}/functions/v1/${name}`;
  const asDemoUser = [
    `-H 'apikey: ${file.publishable_key}'`,
    `-H 'Authorization: Bearer ${token}'`,
  ];
  const card = {
    data_class: "payment",
    card: { number: "4242424242424242", exp_month: 12, exp_year: new Date().getUTCFullYear() + 3 },
    nickname: "demo",
  };
  return `
API URL          ${file.api_url}
publishable key  ${file.publishable_key}
secret key       ${file.secret_key}
local AWS        ${file.aws_endpoint}
local Vault      ${file.vault.addr}
local Google     ${file.gcp_endpoint}
functions        ${functions.join(", ") || "none found in supabase/functions"}

Three calls to paste (the demo user's token is valid for 24 hours):

# 1. Is it healthy?
${curl(functionUrl("kms-health-check"))}

# 2. Encrypt a card as the demo user. Run it twice: the same Idempotency-Key, the same answer.
${
    curl(
      functionUrl("encrypt-payment-data"),
      ...asDemoUser,
      `-H 'Idempotency-Key: ${crypto.randomUUID()}'`,
      "-H 'Content-Type: application/json'",
      `-d '${JSON.stringify(card)}'`,
    )
  }

# 3. List the demo user's payment methods, masked.
${curl(functionUrl("manage-payment-methods-kms"), ...asDemoUser)}

Ctrl-C ends it; the data stays. \`deno task demo\` plays the whole job.
`;
}

function curl(url: string, ...options: readonly string[]): string {
  return [`curl -sS '${url}'`, ...options, `-w '\\n'`].join(" \\\n  ");
}

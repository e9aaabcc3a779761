/** What may never be stored, not even encrypted (PCI DSS 4.0.1, 3.3.1): refused wherever it stands. */
import { assert, assertEquals } from "@std/assert";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  bodyRoutes,
  card,
  encrypt,
  newUser,
  NO_ROWS,
  rowsOf,
  send,
  test,
  VISA,
} from "./suite.ts";

const FORBIDDEN = [
  "cvv",
  "CVV",
  "cvv2",
  "cvc",
  "CVC2",
  "cid",
  "csc",
  "cav2",
  "cvn",
  "card_cvv",
  "card-cvc",
  "c v v",
  "ｃｖｖ",
  "securityCode",
  "security_code",
  "card_security_code",
  "verification_value",
  "pin",
  "PIN",
  "pinBlock",
  "pin_number",
  "track1",
  "track_2",
  "track2Data",
  "trackData",
  "magstripe",
];

/** Stands for a verification code; long enough to be in no request id by chance. */
const CODE = "q9-8-7-code";

test("verification codes, PINs and tracks are refused by name, wherever they stand", async () => {
  const user = await newUser();
  const routes = await bodyRoutes();
  const [, patch] = routes;
  assert(patch !== undefined);
  for (const name of FORBIDDEN) {
    for (
      const body of [
        { ...card(VISA), [name]: CODE },
        card(VISA, { card: { [name]: CODE } }),
        card(VISA, { card: { billing_address: { [name]: CODE } } }),
        { data_class: "pii", data: { deep: [{ er: [[{ [name]: { x: CODE } }]] }] } },
      ]
    ) {
      const answer = await encrypt(user, body);
      assertProblem(answer, 422, "sensitive_authentication_data");
      assertEquals(answer.body.errors?.map((error) => error.code), [
        "sensitive_authentication_data",
      ]);
      assertNowhere(answer, [CODE, VISA]);
    }
  }
  const pointers: readonly (readonly [unknown, string])[] = [
    [card(VISA, { card: { cvc: "123" } }), "/card/cvc"],
    [{ items: [card(VISA), card(AMEX, { card: { cid: "1234" } })] }, "/items/1/card/cid"],
    [{ data_class: "general", data: { a: [1, { pin: null }] } }, "/data/a/1/pin"],
  ];
  for (const [body, pointer] of pointers) {
    assertProblem(await encrypt(user, body), 422, "sensitive_authentication_data", [
      { pointer, code: "sensitive_authentication_data" },
    ]);
  }
  for (const [caller, route] of routes) {
    const answer = await send(caller, route, `{"a":{"\\u0063\\u0056v":"${CODE}"}}`);
    assertProblem(answer, 422, "sensitive_authentication_data", [
      { pointer: "/a/cVv", code: "sensitive_authentication_data" },
    ]);
    assertNowhere(answer, [CODE]);
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("magnetic stripe contents are refused by value, wherever they stand", async () => {
  const user = await newUser();
  const tracks = [
    `%B${VISA}^LOVELACE/ADA^30121010000000000000?`,
    `B${VISA}^LOVELACE/ADA^3012101`,
    `;${VISA}=30121010000012300000?`,
    `${VISA}D30121010000012300000`,
  ];
  for (const track of tracks) {
    for (
      const body of [
        card(VISA, { card: { cardholder_name: track } }),
        card(track),
        { data_class: "general", data: { swipe: [track] } },
        { data_class: "pii", data: { text: `read: ${track} end` } },
      ]
    ) {
      const answer = await encrypt(user, body);
      assertProblem(answer, 422, "sensitive_authentication_data");
      assertNowhere(answer, [VISA, "LOVELACE"]);
    }
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("names that only look like forbidden ones are accepted", async () => {
  const user = await newUser();
  const answer = await encrypt(user, {
    data_class: "general",
    data: {
      pinterest: "a",
      opinion: "b",
      tracking_number: "1Z999AA10123456784",
      soundtrack: "c",
      incident: "d",
      a: "cvv",
    },
  });
  assertEquals(answer.status, 201, answer.text);
});

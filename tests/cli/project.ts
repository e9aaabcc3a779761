/** A project in use: cards of users, which every command leaves readable. */
import { assertEquals } from "@std/assert";
import { manage, newUser, SERVER, store } from "../http/suite.ts";
import type { TestUser } from "../support/stack.ts";
import { done } from "./operator.ts";

export interface Card {
  readonly user: TestUser;
  readonly id: string;
  readonly number: string;
}

export const cards: Card[] = [];
export const HOLDER = "Ada Lovelace";

export async function newCard(number: string): Promise<Card> {
  const user = await newUser();
  const { id } = await store(user, number, { card: { cardholder_name: HOLDER } });
  return { user, id, number };
}

/** Every card of before, as long as it was not erased. */
export async function allReadable(): Promise<void> {
  for (const { user, id, number } of cards) {
    const reveal = { user_id: user.userId, purpose: "support" };
    const { body, text } = await manage(SERVER, "POST", `/${id}/reveal`, reveal);
    assertEquals(
      (body.payment_method?.card as { number: string } | undefined)?.number,
      number,
      text,
    );
  }
}

// deno-lint-ignore no-explicit-any -- each test reads the members it expects
export const keyOf = (dataClass = "payment"): Promise<any> => done(["key", "--class", dataClass]);

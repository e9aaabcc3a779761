/** What a payment method looks like outside: masked, with nothing that needs a key. */
export interface PaymentMethod {
  readonly id: string;
  readonly user_id: string;
  readonly brand: string;
  readonly last4: string;
  /** 1 to 12. */
  readonly exp_month: number;
  /** Four digits. */
  readonly exp_year: number;
  readonly nickname: string | null;
  readonly is_default: boolean;
  readonly data_class: "payment";
  /** ISO 8601, UTC. */
  readonly created_at: string;
  readonly updated_at: string;
}

export interface BillingAddress {
  readonly line1?: string;
  readonly line2?: string;
  readonly city?: string;
  readonly state?: string;
  readonly postal_code?: string;
  /** ISO 3166-1 alpha-2. */
  readonly country?: string;
}

/** What a reveal adds. */
export interface RevealedCard {
  readonly number: string;
  readonly exp_month: number;
  readonly exp_year: number;
  readonly cardholder_name: string | null;
  readonly billing_address: BillingAddress | null;
}

export type RevealedPaymentMethod = PaymentMethod & { readonly card: RevealedCard };

export const PAYMENT_METHODS_TABLE = "payment_methods";

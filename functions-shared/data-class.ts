/** The three kinds of data, each under a KMS key of its own, the most sensitive first. */
export const DATA_CLASSES = ["payment", "pii", "general"] as const;
export type DataClass = typeof DATA_CLASSES[number];

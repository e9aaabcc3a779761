-- Default deny. Everything secret lives in the schema kms, which no API role may even name; the
-- edge functions reach it through `security definer` functions in public that only service_role
-- may execute. Later migrations grant, never assume.

-- ── Schema ─────────────────────────────────────────────────────────────────────────────────────
create schema kms;
comment on schema kms is
  'Private: ciphertext, keys, audit and idempotency of the KMS suite. Not exposed by the Data API.';

revoke all on schema kms from public, anon, authenticated, service_role;

-- Whatever the project's defaults say, nothing made here later is granted by accident.
alter default privileges in schema kms
  revoke all on tables from public, anon, authenticated, service_role;
alter default privileges in schema kms
  revoke all on sequences from public, anon, authenticated, service_role;
alter default privileges in schema kms
  revoke all on functions from public, anon, authenticated, service_role;

-- ── Types ──────────────────────────────────────────────────────────────────────────────────────
-- A domain, because its violation names the constraint and never the value; a table CHECK would
-- put the whole failing row into the error's detail.
create domain kms.encrypted_message as text
  constraint encrypted_message_is_an_aws_esdk_v2_message check (
    length(value) between 176 and 131072
    and value ~ '^AgR4([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$'
  );
comment on domain kms.encrypted_message is
  'Canonical base64 of an AWS Encryption SDK version 2 message under suite 0x0478 (bytes 02 04 78, '
  'hence AgR4), 132 bytes to 96 KiB.';

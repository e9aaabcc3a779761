/** Databases like those of hosted Supabase, on a throw-away server. */

import postgres from "postgres";
import { type Cluster, randomPassword } from "./cluster.ts";
import { foundation } from "./schema.ts";

export interface HostedDatabase {
  readonly name: string;
  /** Connection URL of the role that owns the schema and runs the migrations. */
  readonly ownerUrl: string;
  /** Connection URL of the superuser. */
  readonly adminUrl: string;
}

export interface Owner {
  readonly name: string;
  /** Attributes besides `login`, as `create role` takes them. */
  readonly attributes: string;
  /** Privileges on `auth.users`, as `grant` takes them. */
  readonly authUsers: string;
}

/** Hosted Supabase's role: no superuser, but exempt from policies. */
export const HOSTED_OWNER: Owner = {
  name: "postgres",
  attributes: "createdb createrole bypassrls",
  authUsers: "all",
};

/** The least a role needs to own the schema. */
export const PLAIN_OWNER: Owner = {
  name: "plain_owner",
  attributes: "nosuperuser nobypassrls nocreaterole",
  authUsers: "references",
};

/** An empty project: API roles, `auth`, `extensions`, and hosted Supabase's generous defaults. */
export async function createHostedDatabase(
  cluster: Cluster,
  name: string,
  owner: Owner,
): Promise<HostedDatabase> {
  const password = randomPassword();
  const root = postgres(cluster.url("postgres"), { max: 1, onnotice: () => {} });
  try {
    await root.unsafe(`create role ${owner.name} login ${owner.attributes} password '${password}'`);
    await root.unsafe(`create database ${name} owner ${owner.name}`);
  } finally {
    await root.end();
  }

  const adminUrl = cluster.url(name);
  const admin = postgres(adminUrl, { max: 1, onnotice: () => {} });
  try {
    await admin.unsafe(foundation());
    await admin.unsafe(`
      create schema extensions;
      grant usage on schema extensions to public;
      create extension pgtap with schema extensions;
      create extension plpgsql_check with schema extensions;
      alter database ${name} set search_path = "$user", public, extensions;

      grant anon, authenticated, service_role to ${owner.name};
      grant usage on schema auth to ${owner.name};
      grant ${owner.authUsers} on auth.users to ${owner.name};
      alter default privileges for role ${owner.name} in schema public
        grant all on tables to anon, authenticated, service_role;
      alter default privileges for role ${owner.name} in schema public
        grant all on sequences to anon, authenticated, service_role;
      alter default privileges for role ${owner.name} in schema public
        grant all on functions to anon, authenticated, service_role;
    `);
  } finally {
    await admin.end();
  }
  return { name, adminUrl, ownerUrl: cluster.url(name, { name: owner.name, password }) };
}

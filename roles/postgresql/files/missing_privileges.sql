-- The statements that give an app's role what it lacks on what its owner creates, in whatever schema, and take from it
-- what it is not to have. psql's variables: app, owner.
--
-- They are about what will be created (default privileges) and, in the run in which a privilege becomes a default, also
-- about what is there. But a migration may have revoked something from the app, and that stays so: existing objects are
-- only changed where the app may write already, or outside of `public` where it was never given anything.
--
-- It is not to write alembic's table of versions, which has this one column whatever its name is: what is migrated would
-- be the app's decision. And it is not to create large objects, which belong to nobody's table and are in no limit; a
-- migration may give it that back, as the owner has it with the right to pass it on.
--
-- First, what the app has made itself while its role owned the schema, and goes on using.
SELECT format('REASSIGN OWNED BY %1$I TO %2$I; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %1$I;'
              ' GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO %1$I;', :'app', :'owner')
 WHERE EXISTS (
     SELECT FROM pg_shdepend d
      WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = :'app'::regrole AND d.deptype = 'o'
        AND d.classid <> 'pg_default_acl'::regclass
        AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()));
WITH versions AS (
    SELECT c.oid FROM pg_class c
     WHERE c.relowner = :'owner'::regrole AND c.relkind IN ('r', 'p')
       AND ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = ARRAY['version_num']
),
creators AS (
    SELECT p.oid, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
      FROM pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
),
wanted (class, letter, privilege) AS (
    VALUES ('SCHEMAS', 'n', 'USAGE'),
           ('TABLES', 'r', 'SELECT'),
           ('TABLES', 'r', 'INSERT'),
           ('TABLES', 'r', 'UPDATE'),
           ('TABLES', 'r', 'DELETE'),
           ('TABLES', 'r', 'MAINTAIN'),
           ('SEQUENCES', 'S', 'USAGE'),
           ('SEQUENCES', 'S', 'SELECT'),
           ('SEQUENCES', 'S', 'UPDATE')
),
missing AS (
    SELECT class, privilege
      FROM wanted
     WHERE (privilege <> 'MAINTAIN' OR current_setting('server_version_num')::int >= 170000)
       AND NOT EXISTS (
           SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a
            WHERE d.defaclrole = :'owner'::regrole AND d.defaclnamespace = 0 AND d.defaclobjtype::text = letter
              AND a.grantee = :'app'::regrole AND a.privilege_type = privilege)
),
present AS ( -- what the owner has created, and what the app may do with it
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCES' ELSE 'TABLES' END AS class,
           format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass) AS name,
           n.nspname = 'public' AS is_public,
           ARRAY(SELECT a.privilege_type FROM aclexplode(c.relacl) a WHERE a.grantee = :'app'::regrole) AS given
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relowner = :'owner'::regrole AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND n.nspname !~ '^pg_' -- temporary tables
       AND c.oid NOT IN (SELECT oid FROM versions)
    UNION ALL
    SELECT 'SCHEMAS', format('SCHEMA %I', n.nspname), n.nspname = 'public',
           ARRAY(SELECT a.privilege_type FROM aclexplode(n.nspacl) a WHERE a.grantee = :'app'::regrole)
      FROM pg_namespace n WHERE n.nspowner = :'owner'::regrole AND n.nspname !~ '^pg_'
)
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT %s ON %s TO %I;', :'owner', privilege, class, :'app')
  FROM missing
UNION ALL
SELECT format('GRANT %s ON %s TO %I;', privilege, name, :'app')
  FROM missing JOIN present USING (class)
 WHERE privilege <> ALL (given)
   AND (given && ARRAY['DELETE', 'USAGE'] OR (given = '{}' AND NOT is_public))
UNION ALL -- those of earlier versions, which were for one schema
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE ALL ON %s FROM %I;', :'owner',
              CASE d.defaclobjtype WHEN 'S' THEN 'SEQUENCES' ELSE 'TABLES' END, :'app')
  FROM pg_default_acl d
 WHERE d.defaclrole = :'owner'::regrole AND d.defaclnamespace = 'public'::regnamespace
   AND d.defaclobjtype IN ('r', 'S')
   AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = :'app'::regrole)
UNION ALL
SELECT format('REVOKE %s ON TABLE %s FROM %I;', string_agg(a.privilege_type, ', '), c.oid::regclass, :'app')
  FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
 WHERE c.oid IN (SELECT oid FROM versions) AND a.grantee = :'app'::regrole AND a.privilege_type <> 'SELECT'
 GROUP BY c.oid
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', oid::regprocedure)
  FROM creators WHERE EXISTS (SELECT FROM aclexplode(acl) a WHERE a.grantee = 0)
UNION ALL
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I WITH GRANT OPTION;', oid::regprocedure, :'owner')
  FROM creators
 WHERE NOT EXISTS (SELECT FROM aclexplode(acl) a WHERE a.grantee = :'owner'::regrole AND a.is_grantable);

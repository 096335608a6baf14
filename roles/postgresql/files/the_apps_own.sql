-- The statements that give the app's role what its owner has in this database, where the app makes its own tables. psql's
-- variables: app, owner.
SELECT format('REASSIGN OWNED BY %I TO %I;', :'owner', :'app')
 WHERE EXISTS (
     SELECT FROM pg_shdepend d
      WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = :'owner'::regrole AND d.deptype = 'o'
        AND d.classid <> 'pg_default_acl'::regclass
        AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()));

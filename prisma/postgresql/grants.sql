-- For a service that cannot change what it has written, nor the tables: a role that is not their owner.
-- It adds and reads, and may change nothing but what an identity may become. Run by the owner, after
-- each `hgs-ca migrate`, which only the owner can do:
--
--   HGSCA_DATABASE_URL=postgresql://owner@host/hgsca ... node dist/cli.js migrate
--   psql --set=role=hgsca_service --file=prisma/postgresql/grants.sql postgresql://owner@host/hgsca
--
-- The role itself is made once: CREATE ROLE hgsca_service LOGIN PASSWORD '...';

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"role";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"role";
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO :"role";
REVOKE INSERT ON "_prisma_migrations" FROM :"role";

-- To revoke, rotate and use up: which columns may change, and when, is held by their triggers.
GRANT UPDATE ON "Identity", "BootstrapToken" TO :"role";

-- Lists before the last two are forgotten: what they said is on record.
GRANT DELETE ON "RevocationList", "RevocationListPart" TO :"role";

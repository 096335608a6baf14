CREATE TABLE notice (name text PRIMARY KEY, body text NOT NULL);
CREATE TABLE seeded (at timestamptz NOT NULL DEFAULT now(), release text NOT NULL);
CREATE TABLE tick (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    release text NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended timestamptz
);

CREATE TABLE run(
  id TEXT PRIMARY KEY, started INTEGER NOT NULL, finished INTEGER, verdict TEXT, summary TEXT);
CREATE TABLE coverage(
  id INTEGER PRIMARY KEY, hunt_hash TEXT NOT NULL, product TEXT NOT NULL,
  customer TEXT NOT NULL, workspace TEXT NOT NULL, hunt TEXT NOT NULL,
  begun INTEGER, reread INTEGER, asked INTEGER,
  UNIQUE(hunt_hash, product, customer, workspace));
CREATE TABLE covered(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL);
CREATE TABLE owed(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL,
  since INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE lost(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL, found INTEGER NOT NULL);
CREATE TABLE finding(
  fingerprint TEXT PRIMARY KEY, hunt TEXT NOT NULL, customer TEXT NOT NULL,
  first_reported INTEGER NOT NULL, last_reported INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  revision INTEGER NOT NULL, size INTEGER NOT NULL, marks TEXT NOT NULL,
  reported_as TEXT NOT NULL);
CREATE TABLE outbox(
  id INTEGER PRIMARY KEY, sink TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL,
  findings TEXT NOT NULL, payload BLOB, created INTEGER NOT NULL, delivered INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
  UNIQUE(sink, key));

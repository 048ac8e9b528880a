-- A read model's row is its canonical JSON. What queries need besides is generated from it, so
-- that there is no second copy to disagree with the first, and one digest covers everything.
-- Keys are the seq of the event that began the row, wherever there is one: rows are appended.

CREATE TABLE position (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger TEXT NOT NULL,
  next_seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  recorded_at INTEGER NOT NULL,
  digests TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  run_id TEXT GENERATED ALWAYS AS (row ->> 'runId') VIRTUAL,
  dag_id TEXT GENERATED ALWAYS AS (row ->> 'dagId') VIRTUAL,
  status TEXT GENERATED ALWAYS AS (row ->> 'status') VIRTUAL,
  created_at TEXT GENERATED ALWAYS AS (row ->> 'createdAt') VIRTUAL,
  error_code TEXT GENERATED ALWAYS AS (row ->> 'errorCode') VIRTUAL,
  -- Twelve of the hash's digits find it; the whole would only make the index larger.
  inputs_key TEXT GENERATED ALWAYS AS (substr(row ->> 'inputsHash', 4, 12)) VIRTUAL,
  inputs_hash TEXT GENERATED ALWAYS AS (row ->> 'inputsHash') VIRTUAL
) STRICT;

-- Every index ends with the key, hence newest first is a walk along it.
CREATE UNIQUE INDEX runs_by_id ON runs (run_id);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_dag ON runs (dag_id);
CREATE INDEX runs_by_dag_and_status ON runs (dag_id, status);
CREATE INDEX runs_by_time ON runs (created_at);
CREATE INDEX runs_by_error ON runs (error_code) WHERE error_code IS NOT NULL;
CREATE INDEX runs_by_inputs ON runs (inputs_key);

-- Derived from the rows of runs when they are first written: labels never change.
CREATE TABLE run_labels (
  label TEXT NOT NULL,
  run_key INTEGER NOT NULL,
  PRIMARY KEY (label, run_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  run_key INTEGER GENERATED ALWAYS AS (row ->> 'runSeq') VIRTUAL,
  dag_id TEXT GENERATED ALWAYS AS (row ->> 'dagId') VIRTUAL,
  plugin TEXT GENERATED ALWAYS AS (row ->> 'plugin') VIRTUAL,
  queued_seq INTEGER GENERATED ALWAYS AS (row ->> 'queuedSeq') VIRTUAL,
  -- The phase of a step that somebody still has to do something about.
  open TEXT GENERATED ALWAYS AS (
    CASE WHEN row ->> 'phase' IN ('queued', 'running', 'backingOff') THEN row ->> 'phase' END
  ) VIRTUAL
) STRICT;

CREATE INDEX steps_by_run ON steps (run_key);
CREATE INDEX steps_open ON steps (open, dag_id, plugin, queued_seq) WHERE open IS NOT NULL;

CREATE TABLE dags (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dag_versions (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  dag_id TEXT GENERATED ALWAYS AS (row ->> 'dagId') VIRTUAL,
  version INTEGER GENERATED ALWAYS AS (row ->> 'version') VIRTUAL
) STRICT;

CREATE UNIQUE INDEX dag_versions_by_number ON dag_versions (dag_id, version);

CREATE TABLE tallies (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE queues (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A read model's row is its canonical JSON, which is what digests and dumps are of. The other columns
-- repeat what queries need; a check compares them with the row.
-- Keys are the seq of the event that began the row, wherever there is one: rows are appended.

CREATE TABLE position (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger TEXT NOT NULL,
  next_seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  recorded_at INTEGER NOT NULL,
  digests TEXT NOT NULL,
  -- 1 while pages without use may still hold what was erased.
  unswept INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE runs (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  status TEXT NOT NULL,
  error_code TEXT,
  run_id TEXT NOT NULL,
  dag_id TEXT NOT NULL,
  created_at TEXT NOT NULL,
  -- Twelve of the hash's digits find it; the whole would only make the index larger.
  inputs_key TEXT NOT NULL
) STRICT;

-- Every index ends with the key, hence newest first is a walk along it.
CREATE UNIQUE INDEX runs_by_id ON runs (run_id);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_dag ON runs (dag_id);
CREATE INDEX runs_by_dag_and_status ON runs (dag_id, status);
CREATE INDEX runs_by_time ON runs (created_at);
CREATE INDEX runs_by_error ON runs (error_code) WHERE error_code IS NOT NULL;
CREATE INDEX runs_by_inputs ON runs (inputs_key);

-- Written with a run's first row: labels never change, until they are erased.
CREATE TABLE run_labels (
  label TEXT NOT NULL,
  run_key INTEGER NOT NULL,
  PRIMARY KEY (label, run_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  -- The phase of a step that somebody still has to do something about, and what to find it by.
  open TEXT,
  dag_id TEXT,
  plugin TEXT,
  queued_seq INTEGER,
  run_key INTEGER NOT NULL
) STRICT;

CREATE INDEX steps_of_run ON steps (run_key);
CREATE INDEX steps_open ON steps (open, dag_id, plugin, queued_seq) WHERE open IS NOT NULL;
CREATE INDEX steps_running ON steps (dag_id, plugin, row ->> 'startedAt') WHERE open = 'running';
CREATE INDEX steps_asked ON steps (queued_seq) WHERE open = 'awaitingApproval';

CREATE TABLE dags (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Few of many are.
CREATE INDEX dags_paused ON dags (key) WHERE row ->> 'paused' IS NOT NULL;

CREATE TABLE dag_versions (
  key INTEGER PRIMARY KEY,
  row TEXT NOT NULL,
  dag_id TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX dag_versions_by_number ON dag_versions (dag_id, version);

CREATE TABLE tallies (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE controls (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE queues (
  key TEXT PRIMARY KEY,
  row TEXT NOT NULL
) STRICT, WITHOUT ROWID;

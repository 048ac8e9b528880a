//! Starts that count against the budgets of DAGs.

use std::{collections::BTreeMap, path::Path};

use sqlx::SqliteConnection;
use stella_domain::{
    chain::Head,
    dag::{Budget, DagSpec},
    ids::DagId,
    open_work::CountedStart,
    time::Timestamp,
};

use crate::{
    ProjectionError,
    rows::{DagRow, DagVersionRow, Row, RunRow},
    store::db_int,
};

const BUDGETED_VERSIONS: &str =
    "SELECT row FROM dag_versions WHERE row ->> '$.spec.budget' IS NOT NULL ORDER BY key";

const DAG: &str = "SELECT row FROM dags WHERE key = ?";

/// Of one DAG, after a seq and after a time, newest first. Times ascend with keys.
const STARTS: &str = "SELECT row FROM runs WHERE dag_id = ?1 AND key > ?2 AND key >=
        (SELECT key FROM runs WHERE created_at > ?3 ORDER BY created_at, key LIMIT 1)
    ORDER BY key DESC";

/// What counts as of `head`; at any later time, less of it does.
pub(super) async fn counted_starts(
    snapshot: &mut SqliteConnection,
    head: &Head,
    path: &Path,
) -> Result<Vec<CountedStart>, ProjectionError> {
    let storage = || ProjectionError::storage(path);
    let versions: Vec<String> =
        sqlx::query_scalar(BUDGETED_VERSIONS).fetch_all(&mut *snapshot).await.map_err(storage())?;
    let mut dags: BTreeMap<DagId, BTreeMap<u32, Budget>> = BTreeMap::new();
    for text in &versions {
        let row = DagVersionRow::from_text(text)?;
        // A version that this build cannot read starts nothing.
        let spec = DagSpec::from_stored(&row.spec).ok();
        if let Some(budget) = spec.and_then(|spec| spec.budget()) {
            dags.entry(row.dag_id).or_default().insert(row.version, budget);
        }
    }
    let mut starts = vec![];
    for (dag_id, budgets) in dags {
        let dag: Option<String> = sqlx::query_scalar(DAG)
            .bind(dag_id.as_str())
            .fetch_optional(&mut *snapshot)
            .await
            .map_err(storage())?;
        let resumed_seq = match dag {
            Some(text) => DagRow::from_text(&text)?.resumed_seq,
            None => None,
        };
        let window_ms = budgets.values().map(|budget| budget.window_ms).max().unwrap_or_default();
        let micros = i64::try_from(window_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let since = Timestamp::from_micros(head.recorded_at.as_micros().saturating_sub(micros));
        let rows: Vec<String> = sqlx::query_scalar(STARTS)
            .bind(dag_id.as_str())
            .bind(resumed_seq.map_or(-1, db_int))
            .bind(since.to_string())
            .fetch_all(&mut *snapshot)
            .await
            .map_err(storage())?;
        for text in &rows {
            let row = RunRow::from_text(text)?;
            if budgets.contains_key(&row.dag_version) {
                starts.push(start(row));
            }
        }
    }
    Ok(starts)
}

fn start(row: RunRow) -> CountedStart {
    CountedStart {
        dag_id: row.dag_id,
        dag_version: row.dag_version,
        run_id: row.run_id,
        at: row.created_at,
        actor: row.actor,
        schedule_id: row.schedule.map(|fire| fire.schedule_id),
    }
}

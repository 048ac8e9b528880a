//! What the events of a DAG do to its rows.

use std::collections::BTreeSet;

use stella_domain::event::DagEvent;

use super::{LiveDag, Place};
use crate::{
    rows::{DagRow, DagVersionRow, Mark},
    tracked::Tracked,
};

pub(super) fn fold(
    dag: &mut LiveDag,
    new_versions: &mut Vec<Tracked<DagVersionRow>>,
    place: &Place,
    mark: Mark,
    event: &DagEvent,
) -> Result<(), &'static str> {
    match event {
        DagEvent::DagVersionRegistered(data) => {
            let row = dag.row.get_or_insert_with(|| {
                Tracked::new(DagRow {
                    active_version: None,
                    brake: None,
                    created_at: place.at,
                    dag_id: data.dag_id.clone(),
                    disabled_versions: BTreeSet::new(),
                    latest_version: data.version,
                    paused: None,
                    resumed_seq: None,
                    updated_at: place.at,
                })
            });
            let row = row.change();
            row.latest_version = data.version;
            row.updated_at = place.at;
            new_versions.push(Tracked::new(DagVersionRow {
                dag_id: data.dag_id.clone(),
                digest: data.digest.clone(),
                registered_at: place.at,
                seq: place.seq,
                spec: data.spec.clone(),
                version: data.version,
            }));
        }
        DagEvent::DagVersionActivated(data, _) => {
            existing(dag, place)?.active_version = Some(data.version);
        }
        DagEvent::DagRolledBack(data, _) => existing(dag, place)?.active_version = Some(data.to),
        DagEvent::DagPaused(data, _) => {
            let row = existing(dag, place)?;
            (row.paused, row.brake) = (Some(mark), data.brake.clone());
        }
        DagEvent::DagResumed(..) => {
            let row = existing(dag, place)?;
            (row.paused, row.brake) = (None, None);
            row.resumed_seq = Some(place.seq);
        }
        DagEvent::DagVersionDisabled(data, _) => {
            existing(dag, place)?.disabled_versions.insert(data.version);
        }
        DagEvent::DagVersionEnabled(data, _) => {
            existing(dag, place)?.disabled_versions.remove(&data.version);
        }
    }
    Ok(())
}

/// Why it was done, where that is not erased.
pub(super) fn reason(event: &DagEvent) -> Option<String> {
    let payload = match event {
        DagEvent::DagVersionRegistered(_) => return None,
        DagEvent::DagPaused(_, payload)
        | DagEvent::DagResumed(_, payload)
        | DagEvent::DagVersionActivated(_, payload)
        | DagEvent::DagRolledBack(_, payload)
        | DagEvent::DagVersionDisabled(_, payload)
        | DagEvent::DagVersionEnabled(_, payload) => payload,
    };
    payload.as_ref().map(|payload| payload.reason.clone())
}

/// The row of a DAG that has a version, which changes.
fn existing<'a>(dag: &'a mut LiveDag, place: &Place) -> Result<&'a mut DagRow, &'static str> {
    let row = dag.row.as_mut().ok_or("the DAG has no version")?.change();
    row.updated_at = place.at;
    Ok(row)
}

//! The routes, one file a resource.

pub(crate) mod admin;
pub(crate) mod approvals;
pub(crate) mod artifacts;
pub(crate) mod bundle;
pub(crate) mod checkpoints;
pub(crate) mod control;
pub(crate) mod dag_versions;
pub(crate) mod dags;
pub(crate) mod export;
pub(crate) mod ledger;
pub(crate) mod metrics;
pub(crate) mod probes;
pub(crate) mod proofs;
pub(crate) mod queue;
pub(crate) mod runs;
mod schedule_body;
mod schedule_view;
pub(crate) mod schedules;
pub(crate) mod slo;
pub(crate) mod warm;
mod why;
pub(crate) mod workers;

//! `dag activate`, `disable`, `enable`, `rollback`, `pause`, `resume` and `clear`: what of a DAG
//! starts.

use clap::Args;
use stella_api::types::{ChangedDag, ClearedVersion, DagVersionItem, ReasonBody, RollBackBody};
use stella_domain::ids::DagId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{details, note},
};

/// Let runs start with this version unless they name one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag activate nightly --dag-version 4 --reason 'the fix holds'")]
pub(crate) struct Activate {
    #[command(flatten)]
    version: VersionArgs,
}

/// Let no run start with this version. Runs that were started with it go on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag disable nightly --dag-version 3 --reason 'fails on empty inputs'")]
pub(crate) struct Disable {
    #[command(flatten)]
    version: VersionArgs,
}

/// Let runs start with this version again. It does not become the active one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag enable nightly --dag-version 3")]
pub(crate) struct Enable {
    #[command(flatten)]
    version: VersionArgs,
}

/// Let runs start with an older version again. Runs that were started go on with theirs.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --to it is the newest older version that is not disabled.

Examples:
  stella orch dag rollback nightly --reason 'version 3 fails on empty inputs'
  stella orch dag rollback nightly --to 1")]
pub(crate) struct Rollback {
    /// The DAG.
    dag: DagId,
    /// The version to go back to.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// Start no run of this DAG, and lease no step of those that there are. What runs goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag pause nightly --reason 'its source is being moved'")]
pub(crate) struct Pause {
    #[command(flatten)]
    dag: DagArgs,
}

/// Let a paused DAG go on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag resume nightly")]
pub(crate) struct Resume {
    #[command(flatten)]
    dag: DagArgs,
}

/// Cancel the runs of a disabled version that have not ended, with all that waits of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag clear nightly --dag-version 3 --reason 'fails on empty inputs'")]
pub(crate) struct Clear {
    #[command(flatten)]
    version: VersionArgs,
}

/// A DAG, and why something is done to it.
#[derive(Debug, Args)]
struct DagArgs {
    /// The DAG.
    dag: DagId,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// A version of a DAG, and why something is done to it.
#[derive(Debug, Args)]
struct VersionArgs {
    /// The DAG.
    dag: DagId,
    /// Its version.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dag_version: u32,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Activate {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.version.ask("activate").await
    }
}

impl Disable {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.version.ask("disable").await
    }
}

impl Enable {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.version.ask("enable").await
    }
}

impl Pause {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.dag.ask(":pause").await
    }
}

impl Resume {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.dag.ask(":resume").await
    }
}

impl DagArgs {
    async fn ask(self, verb: &str) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let answer = self.api.client()?.post(&path("dags", &self.dag, verb), &[], &body).await?;
        print(&self.api, &answer.body)
    }
}

impl Clear {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let VersionArgs { dag, dag_version, reason, api } = self.version;
        let (client, body) = (api.client()?, ReasonBody { reason });
        let verb = path("dags", &dag, &format!("/versions/{dag_version}:clear"));
        let mut cancelled = 0;
        loop {
            let answer: ClearedVersion = client.post(&verb, &[], &body).await?.body;
            cancelled += answer.cancelled;
            if !answer.more {
                break;
            }
            note(format_args!("{cancelled} run(s) cancelled, going on"));
        }
        let cleared = ClearedVersion { cancelled, more: false };
        api.output
            .print(&cleared, |cleared| details(&[("cancelled", cleared.cancelled.to_string())]))
    }
}

impl VersionArgs {
    async fn ask(self, verb: &str) -> Result<(), Failure> {
        let verb = format!("/versions/{}:{verb}", self.dag_version);
        let body = ReasonBody { reason: self.reason };
        let answer = self.api.client()?.post(&path("dags", &self.dag, &verb), &[], &body).await?;
        print(&self.api, &answer.body)
    }
}

impl Rollback {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let to_version = match self.to {
            Some(version) => version,
            // Looked up here, so that the command names it: sent again, it goes back no further.
            None => {
                let versions = path("dags", &self.dag, "/versions");
                let versions: Vec<DagVersionItem> = client.list(&versions, &[], usize::MAX).await?;
                before_active(&versions).ok_or_else(|| {
                    Failure::failed(format!(
                        "DAG {} has no version to go back to: none older than the active one is \
                         enabled; see `stella orch dag versions {}`",
                        self.dag, self.dag
                    ))
                })?
            }
        };
        let body = RollBackBody { to_version, reason: self.reason };
        let answer = client.post(&path("dags", &self.dag, ":rollback"), &[], &body).await?;
        print(&self.api, &answer.body)
    }
}

/// The newest version that is older than the active one and enabled; `versions` begin with the
/// newest.
fn before_active(versions: &[DagVersionItem]) -> Option<u32> {
    let older = versions.iter().skip_while(|version| !version.active).skip(1);
    older.filter(|version| !version.disabled).map(|version| version.version).next()
}

fn print(api: &ApiArgs, dag: &ChangedDag) -> Result<(), Failure> {
    api.output.print(dag, |dag| {
        let number = |version: Option<u32>| version.map_or("-".to_owned(), |n| n.to_string());
        let disabled = dag.disabled_versions.iter().map(u32::to_string).collect::<Vec<_>>();
        let mut rows = vec![
            ("dag", dag.dag_id.to_string()),
            ("paused", if dag.paused { "yes" } else { "no" }.to_owned()),
            ("active", number(dag.active_version)),
            ("disabled", if disabled.is_empty() { "-".to_owned() } else { disabled.join(", ") }),
        ];
        rows.push(match dag.seq {
            Some(seq) => ("seq", seq.to_string()),
            None => ("seq", "- (nothing to change)".to_owned()),
        });
        details(&rows)
    })
}

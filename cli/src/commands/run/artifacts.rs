//! `run artifacts`.

use std::path::{Path, PathBuf};

use clap::Args;
use stella_api::types::NamedArtifact;
use stella_domain::{artifact::ArtifactDigest, ids::RunId};

use crate::{
    client::{Client, path},
    commands::ApiArgs,
    failure::Failure,
    output::{self, Table},
};

/// What of a run is too large for its events: large inputs and outputs, files, logs. With --get, the
/// bytes of one of them, checked against its digest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run artifacts 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run artifacts 0RQ9CWTXP9BPJR3KTYEG0MB9FF --get report.pdf --file report.pdf
  stella orch run artifacts 0RQ9CWTXP9BPJR3KTYEG0MB9FF -o json | jq -r '.[] | .digest'")]
pub(crate) struct Artifacts {
    /// The run.
    run_id: RunId,
    /// Get the one of this name, as listed, or of this digest.
    #[arg(long, value_name = "NAME|DIGEST", requires = "file")]
    get: Option<String>,
    /// Where to write it.
    #[arg(long, value_name = "FILE", requires = "get")]
    file: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

impl Artifacts {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let artifacts: Vec<NamedArtifact> =
            client.list(&path("runs", &self.run_id, "/artifacts"), &[], usize::MAX).await?;
        let (Some(wanted), Some(file)) = (&self.get, &self.file) else {
            return self.api.output.print(&artifacts, |artifacts| table(artifacts));
        };
        let digest = self.find(&artifacts, wanted)?;
        download(&client, &self.run_id, digest, file).await?;
        output::note(format_args!("{}: {digest}", file.display()));
        Ok(())
    }

    fn find(&self, artifacts: &[NamedArtifact], wanted: &str) -> Result<ArtifactDigest, Failure> {
        let matches = |named: &&NamedArtifact| {
            let artifact = &named.artifact;
            artifact.name.as_deref() == Some(wanted)
                || named.pointer == wanted
                || artifact.digest.to_string() == wanted
        };
        let mut found: Vec<_> =
            artifacts.iter().filter(matches).map(|named| named.artifact.digest).collect();
        found.sort();
        found.dedup();
        let listed = format!("see which there are: `stella orch run artifacts {}`", self.run_id);
        match *found {
            [digest] => Ok(digest),
            [] => {
                let what = format!("run {} has no artifact {wanted:?}", self.run_id);
                Err(Failure::failed(what).try_this(listed))
            }
            _ => {
                let what =
                    format!("{} artifacts are called {wanted:?}: name a digest", found.len());
                Err(Failure::failed(what).try_this(listed))
            }
        }
    }
}

/// Readers of `file` see the whole artifact or nothing.
async fn download(
    client: &Client,
    run_id: &RunId,
    digest: ArtifactDigest,
    file: &Path,
) -> Result<(), Failure> {
    let unwritable = |error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let part = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
    let mut part = part.map_err(unwritable)?;
    client.artifact(run_id, digest, &mut part, &file.display().to_string()).await?;
    part.persist(file).map_err(|error| unwritable(error.error))?;
    Ok(())
}

fn table(artifacts: &[NamedArtifact]) -> String {
    let mut table = Table::new(&[
        "SEQ#", "EVENT", "STEP", "ATTEMPT#", "KIND", "NAME", "TYPE", "BYTES#", "DIGEST",
    ]);
    for named in artifacts {
        let dash = || "-".to_owned();
        let artifact = &named.artifact;
        table.row([
            named.seq.to_string(),
            named.event_type.clone(),
            named.step_id.as_ref().map_or_else(dash, ToString::to_string),
            named.attempt.map_or_else(dash, |attempt| attempt.to_string()),
            named.kind.as_str().to_owned(),
            named.artifact.name.as_ref().map_or_else(|| named.pointer.clone(), ToString::to_string),
            artifact.media_type.to_string(),
            artifact.size.to_string(),
            artifact.digest.to_string(),
        ]);
    }
    table.text("its events name no artifacts")
}

//! The bytes of an artifact.

use std::io::{self, Write};

use stella_domain::{artifact::ArtifactDigest, hash::ArtifactHasher, ids::RunId};

use super::{Client, path};
use crate::failure::Failure;

impl Client {
    /// Write the bytes of an artifact of a run to `to`, whose name for people is `place`. When this ends
    /// well, they were what `digest` says.
    pub(crate) async fn artifact(
        &self,
        run_id: &RunId,
        digest: ArtifactDigest,
        to: &mut impl Write,
        place: &str,
    ) -> Result<(), Failure> {
        let unwritable =
            |error: io::Error| Failure::failed(format!("cannot write {place}: {error}"));
        let mut response =
            self.open(&path("runs", run_id, &format!("/artifacts/{digest}")), &[]).await?;
        let mut hasher = ArtifactHasher::default();
        while let Some(piece) = self.next_piece(&mut response).await? {
            hasher.update(piece.as_ref());
            to.write_all(piece.as_ref()).map_err(unwritable)?;
        }
        to.flush().map_err(unwritable)?;
        if ArtifactDigest::from(hasher.finish()) == digest {
            return Ok(());
        }
        Err(Failure::not_verified(format!("what the server sent is not artifact {digest}")))
    }
}

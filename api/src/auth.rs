//! Who calls. Until authentication names tenants and scopes, one access token stands for the one
//! operator of a loopback server; whoever can read its file may do everything.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use stella_domain::ids::{Actor, Tenant};

use crate::{problem::ApiError, state::AppState};

/// Random bytes in an access token.
const TOKEN_BYTES: usize = 32;
/// Attempts to agree with other processes on one token file.
const ATTEMPTS: usize = 8;

/// What a caller has to present: 32 random bytes in 64 hex digits. Never shown by `Debug`.
#[derive(Clone)]
pub struct AccessToken(Arc<[u8; TOKEN_BYTES]>);

/// Why a text is not an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an access token: it is 64 hex digits")]
pub struct AccessTokenError;

/// Why there is no token file.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The system refused.
    #[error("the token file {path} cannot be read or written: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file that others can read, or that holds something else.
    #[error("the token file {path} {reason}; remove it, and a new one is made")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system has no randomness to give.
    #[error("no random bytes for an access token: {0}")]
    Random(String),
}

impl AccessToken {
    /// A fresh token.
    ///
    /// # Errors
    /// [`TokenFileError::Random`].
    pub fn random() -> Result<Self, TokenFileError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| TokenFileError::Random(e.to_string()))?;
        Ok(Self(Arc::new(bytes)))
    }

    /// The token in the file at `path`, which is made, readable by its owner alone, if it is
    /// missing. It appears there whole or not at all.
    ///
    /// # Errors
    /// [`TokenFileError`]; a file that is there and does not fit is left as it is.
    pub fn create_file(path: &Path) -> Result<Self, TokenFileError> {
        let failed = |source| TokenFileError::File { path: path.to_owned(), source };
        for _ in 0..ATTEMPTS {
            if let Some(token) = Self::from_file(path)? {
                return Ok(token);
            }
            let token = Self::random()?;
            let fresh = path.with_extension(format!("{}.new", std::process::id()));
            write_private(&fresh, &token.to_hex()).map_err(failed)?;
            // Unlike a rename, a link does not replace what another process made meanwhile.
            let linked = fs::hard_link(&fresh, path);
            fs::remove_file(&fresh).map_err(failed)?;
            match linked {
                Ok(()) => return Ok(token),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(TokenFileError::Unfit { path: path.to_owned(), reason: "keeps coming and going" })
    }

    /// The token in the file at `path`; `None` when there is no file.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn from_file(path: &Path) -> Result<Option<Self>, TokenFileError> {
        let failed = |source| TokenFileError::File { path: path.to_owned(), source };
        let unfit = |reason| TokenFileError::Unfit { path: path.to_owned(), reason };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(unfit("holds no access token"));
            }
            Err(e) => return Err(failed(e)),
        };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(unfit("can be read by others"));
        }
        let token = text.trim_end().parse().map_err(|_| unfit("holds no access token"))?;
        Ok(Some(token))
    }

    /// The token as text, for whoever has to present it.
    pub fn to_hex(&self) -> String {
        hex::encode(*self.0)
    }

    /// Whether `presented` is this token, in a time that does not tell how much of it fits.
    fn is(&self, presented: &[u8]) -> bool {
        let mut bytes = [0; TOKEN_BYTES];
        if hex::decode_to_slice(presented, &mut bytes).is_err() {
            return false;
        }
        let differing = self.0.iter().zip(&bytes).fold(0, |acc, (a, b)| acc | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

/// In the file system's cache when this returns; a lost token file is made anew.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

impl FromStr for AccessToken {
    type Err = AccessTokenError;
    fn from_str(text: &str) -> Result<Self, AccessTokenError> {
        let mut bytes = [0; TOKEN_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| AccessTokenError)?;
        Ok(Self(Arc::new(bytes)))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(redacted)")
    }
}

/// Who calls, and for which tenant. Extracting it proves authentication.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) actor: Actor,
}

/// Whoever holds the access token.
static LOCAL_OPERATOR: LazyLock<Actor> = LazyLock::new(|| Actor::user("local"));

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            ApiError::unauthorized(
                "present the access token as `Authorization: Bearer …`; \
                 `stella orch serve` writes it to a file in its data directory",
            )
        })?;
        let presented = header.as_bytes().split_at_checked(7);
        let known = presented.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && state.access_token.is(token)
        });
        if !known {
            let detail = "this is not the access token of this server";
            return Err(ApiError::unauthorized(detail));
        }
        Ok(Self { tenant: state.tenant.clone(), actor: LOCAL_OPERATOR.clone() })
    }
}

//! Where artifacts are, as it is configured.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where artifacts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactUri {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An S3-compatible bucket, and what comes before the names in it.
    S3 {
        /// The bucket.
        bucket: String,
        /// Names in it begin with this; may be empty.
        prefix: String,
    },
}

/// Why a text does not say where artifacts are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no place for artifacts: write a folder, `file:FOLDER` or `s3://BUCKET[/PREFIX]`"
)]
pub struct UriError {
    found: String,
}

impl FromStr for ArtifactUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let wrong = || UriError { found: text.chars().take(200).collect() };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/').to_owned();
            return match bucket {
                "" => Err(wrong()),
                _ => Ok(Self::S3 { bucket: bucket.to_owned(), prefix }),
            };
        }
        let folder = match text.strip_prefix("file:") {
            Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
            None if text.contains("://") => return Err(wrong()),
            None => text,
        };
        if folder.is_empty() { Err(wrong()) } else { Ok(Self::Folder(folder.into())) }
    }
}

impl fmt::Display for ArtifactUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file:{}", folder.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for (text, canonical) in [
            ("artifacts", "file:artifacts"),
            ("/var/lib/x", "file:/var/lib/x"),
            ("file:///var/lib/x", "file:/var/lib/x"),
            ("file:a/b", "file:a/b"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ] {
            assert_eq!(text.parse::<ArtifactUri>().unwrap().to_string(), canonical, "{text}");
        }
        for text in ["", "s3://", "s3:///a", "https://example.com/a", "file:"] {
            assert!(text.parse::<ArtifactUri>().is_err(), "{text}");
        }
    }
}

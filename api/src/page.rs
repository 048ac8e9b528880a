//! Pages: what a client gives back to get the next one.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::Error as _};
use stella_projections::PageRequest;

use crate::{extract::PageSize, types::Page};

/// Where a page begins; opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageToken(pub(crate) u64);

impl PageToken {
    fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.to_be_bytes())
    }

    fn from_text(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl<'de> Deserialize<'de> for PageToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| {
            D::Error::custom("pageToken is not one that this server gave: give back nextPageToken")
        })
    }
}

/// The page that the read side is asked for.
pub(crate) fn request(size: PageSize, token: Option<PageToken>) -> PageRequest {
    PageRequest { size: size.0, after: token.map(|token| token.0) }
}

impl<T> Page<T> {
    /// A page whose successor begins at `next`.
    pub(crate) fn with_next(items: Vec<T>, next: Option<u64>) -> Self {
        Self { items, next_page_token: next.map(|next| PageToken(next).to_text()) }
    }

    /// The read side's page, each row as it is shown.
    pub(crate) fn of<R: Into<T>>(page: stella_projections::Page<R>) -> Self {
        Self::with_next(page.items.into_iter().map(Into::into).collect(), page.next)
    }
}

//! Pages: what a client gives back to get the next one.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::Error as _};
use stella_domain::ids::{DagId, ScheduleId};
use stella_projections::PageRequest;

use crate::{extract::PageSize, types::Page};

/// Where a page begins: after a seq, or after a name. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageToken<P = u64>(pub(crate) P);

/// A place in a list.
pub(crate) trait Place: Sized {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: Vec<u8>) -> Option<Self>;
}

impl Place for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl Place for DagId {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().into()
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        String::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl Place for ScheduleId {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().into()
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        String::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl<P: Place> PageToken<P> {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.to_bytes())
    }

    fn from_text(text: &str) -> Option<Self> {
        P::from_bytes(URL_SAFE_NO_PAD.decode(text).ok()?).map(Self)
    }
}

impl<'de, P: Place> Deserialize<'de> for PageToken<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| {
            D::Error::custom("pageToken is not one that this server gave: give back nextPageToken")
        })
    }
}

/// The page that the read side is asked for.
pub(crate) fn request<P>(size: PageSize, token: Option<PageToken<P>>) -> PageRequest<P> {
    PageRequest { size: size.0, after: token.map(|token| token.0) }
}

impl<T> Page<T> {
    /// A page whose successor begins at `next`.
    pub(crate) fn with_next<P: Place>(items: Vec<T>, next: Option<P>) -> Self {
        Self { items, next_page_token: next.map(|next| PageToken(next).to_text()) }
    }

    /// The read side's page, each row as it is shown.
    pub(crate) fn of<R: Into<T>, P: Place>(page: stella_projections::Page<R, P>) -> Self {
        Self::with_next(page.items.into_iter().map(Into::into).collect(), page.next)
    }
}

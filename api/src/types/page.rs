//! Lists, a page at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Items that a page holds unless asked otherwise.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// Items that a page holds at most.
pub const MAX_PAGE_SIZE: u32 = 500;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Give it back as `pageToken` to get the next page; absent on the last one. Opaque.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

//! Test support: what every [`CheckpointStore`] has to do, as one suite that all implementations
//! run. A check that fails panics and says what was wrong.

use std::sync::Arc;

use stella_domain::{
    hash::Hash32,
    ids::Tenant,
    merkle::{Tile, TileId},
};

use super::store::{CheckpointStore, ROOTS_LIMIT, StoredNote};

/// Run every check on an empty store.
///
/// # Panics
/// When the store does not do what [`CheckpointStore`] says.
#[allow(clippy::expect_used)] // Failing is what a check is for.
pub async fn suite(store: Arc<dyn CheckpointStore>) {
    let tenant: Tenant = "acme".parse().expect("a name");
    let other: Tenant = "acme-2".parse().expect("a name");
    notes_are_found_by_size(&*store, &tenant, &other).await;
    a_note_stays_as_it_is(&*store, &tenant).await;
    roots_are_read_in_order(&*store, &tenant, &other).await;
    one_of_many_notes_wins(store, other).await;
}

#[allow(clippy::expect_used)] // Failing is what a check is for.
async fn sizes(store: &dyn CheckpointStore, tenant: &Tenant, at_least: u64) -> Option<u64> {
    store.note_from(tenant, at_least).await.expect("a read").map(|note| note.size)
}

#[allow(clippy::expect_used)] // Failing is what a check is for.
async fn notes_are_found_by_size(store: &dyn CheckpointStore, tenant: &Tenant, other: &Tenant) {
    assert_eq!(store.newest_note(tenant).await.expect("a read"), None);
    assert_eq!(sizes(store, tenant, 0).await, None);
    for size in [7, 1, 300, 1_000_000, 30] {
        let note = format!("size {size} — \n");
        assert!(store.insert_note(tenant, size, &note).await.expect("an insert"));
    }
    assert!(store.insert_note(other, 2_000_000, "x").await.expect("an insert"));
    for (at_least, found) in [(0, 1), (1, 1), (2, 7), (7, 7), (8, 30), (31, 300), (301, 1_000_000)]
    {
        assert_eq!(sizes(store, tenant, at_least).await, Some(found), "at least {at_least}");
    }
    assert_eq!(sizes(store, tenant, 1_000_001).await, None);
    for (from, limit, found) in
        [(0, 3, &[1, 7, 30][..]), (8, 9, &[30, 300, 1_000_000]), (0, 0, &[]), (2_000_000, 9, &[])]
    {
        let notes = store.notes_from(tenant, from, limit).await.expect("a read");
        assert!(notes.iter().map(|note| note.size).eq(found.iter().copied()), "{notes:?}");
    }
    let newest = StoredNote { size: 1_000_000, note: "size 1000000 — \n".to_owned() };
    assert_eq!(store.newest_note(tenant).await.expect("a read"), Some(newest.clone()));
    assert_eq!(store.note_of(tenant, 1_000_000).await.expect("a read"), Some(newest));
    assert_eq!(store.note_of(tenant, 8).await.expect("a read"), None);
}

#[allow(clippy::expect_used)] // Failing is what a check is for.
async fn a_note_stays_as_it_is(store: &dyn CheckpointStore, tenant: &Tenant) {
    assert!(!store.insert_note(tenant, 7, "another").await.expect("an insert"));
    let found = store.note_of(tenant, 7).await.expect("a read").expect("a note");
    assert_eq!(found.note, "size 7 — \n");
}

fn tile(level: u32, index: u64) -> Tile {
    let mut root = [0; 32];
    root[0] = level as u8;
    root[24..].copy_from_slice(&index.to_be_bytes());
    Tile { id: TileId { level, index }, root: Hash32::from(root) }
}

#[allow(clippy::expect_used)] // Failing is what a check is for.
async fn roots_are_read_in_order(store: &dyn CheckpointStore, tenant: &Tenant, other: &Tenant) {
    let roots = async |level, indices| -> Vec<Hash32> {
        store.tile_roots(tenant, level, indices).await.expect("a read")
    };
    let expected = |level, indices: std::ops::Range<u64>| -> Vec<Hash32> {
        indices.map(|index| tile(level, index).root).collect()
    };
    assert!(roots(0, 0..10).await.is_empty());
    store.insert_tiles(tenant, &[]).await.expect("an insert");
    let mut tiles: Vec<Tile> = (0..1_000).map(|index| tile(0, index)).collect();
    tiles.extend([tile(1, 0), tile(1, 1), tile(1, 3), tile(5, 1 << 40)]);
    store.insert_tiles(tenant, &tiles).await.expect("an insert");
    store.insert_tiles(other, &[tile(1, 2), tile(0, 1_000)]).await.expect("an insert");
    assert_eq!(roots(0, 990..1_001).await, expected(0, 990..1_000));
    assert_eq!(roots(0, 3..5).await, expected(0, 3..5));
    assert_eq!(roots(0, 0..1_000).await, expected(0, 0..ROOTS_LIMIT));
    assert_eq!(roots(0, 5..5).await, []);
    assert_eq!(roots(1, 0..9).await, expected(1, 0..2), "it ends before the first missing one");
    assert_eq!(roots(1, 2..9).await, []);
    assert_eq!(roots(5, 1 << 40..(1 << 40) + 1).await, expected(5, 1 << 40..(1 << 40) + 1));
    // Repeated, with something else and with something new among it.
    let forged = Tile { root: Hash32::ZERO, ..tile(0, 5) };
    store.insert_tiles(tenant, &[tile(0, 4), forged, tile(1, 2)]).await.expect("an insert");
    assert_eq!(roots(0, 4..6).await, expected(0, 4..6), "what is there stays");
    assert_eq!(roots(1, 0..9).await, expected(1, 0..4));
}

#[allow(clippy::expect_used)] // Failing is what a check is for.
async fn one_of_many_notes_wins(store: Arc<dyn CheckpointStore>, tenant: Tenant) {
    let attempts = (0..8).map(|n| {
        let (store, tenant) = (Arc::clone(&store), tenant.clone());
        async move { store.insert_note(&tenant, 9, &format!("{n}")).await.expect("an insert") }
    });
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{outcomes:?}");
    let winner = outcomes.iter().position(|won| *won).expect("one").to_string();
    let found = store.note_of(&tenant, 9).await.expect("a read").expect("a note");
    assert_eq!(found.note, winner);
}

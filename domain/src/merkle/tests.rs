//! Against the definitions of RFC 6962, written out as they stand there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

/// MTH(D[n]).
fn naive_root(leaves: &[Hash32]) -> Hash32 {
    match leaves {
        [] => root(&[]),
        [only] => leaf(only),
        _ => {
            let (left, right) = leaves.split_at(largest_power_below(leaves.len()));
            node(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH(m, D[n]).
fn naive_path(m: usize, leaves: &[Hash32]) -> Vec<Hash32> {
    if leaves.len() <= 1 {
        return vec![];
    }
    let k = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if m < k {
        (naive_path(m, left), naive_root(right))
    } else {
        (naive_path(m - k, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF(m, D[n], b).
fn naive_subproof(m: usize, leaves: &[Hash32], b: bool) -> Vec<Hash32> {
    if m == leaves.len() {
        return if b { vec![] } else { vec![naive_root(leaves)] };
    }
    let k = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if m <= k {
        (naive_subproof(m, left, b), naive_root(right))
    } else {
        (naive_subproof(m - k, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

fn largest_power_below(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn leaves(count: usize) -> Vec<Hash32> {
    (0..count).map(|i| crate::hash::event_hash(&i.to_string())).collect()
}

fn flip(hash: Hash32) -> Hash32 {
    let mut bytes = *hash.as_bytes();
    bytes[31] ^= 1;
    bytes.into()
}

fn verify_range(
    leaves: &[Hash32],
    first: u64,
    size: u64,
    proof: &RangeProof,
) -> Result<Hash32, MerkleError> {
    let mut fold = RangeFold::new(first..first + leaves.len() as u64, size, proof)?;
    for leaf in leaves {
        fold.push(leaf)?;
    }
    fold.root()
}

#[test]
fn every_small_tree_agrees_with_the_rfc() {
    let all = leaves(20);
    for n in 0..=20 {
        let tree = &all[..n];
        let (size, top) = (n as u64, naive_root(tree));
        assert_eq!(root(tree), top, "{n}");
        assert_eq!(Frontier::load(tree, size).unwrap().root(), top, "{n}");
        for m in 0..n {
            let proof = inclusion_proof(tree, m as u64, size).unwrap();
            assert_eq!(proof, naive_path(m, tree), "{m} in {n}");
            verify_inclusion(&tree[m], m as u64, size, &top, &proof).unwrap();
        }
        for m in 0..=n {
            let proof = consistency_proof(tree, m as u64, size).unwrap();
            if m > 0 {
                assert_eq!(proof, naive_subproof(m, tree, true), "{m} to {n}");
            }
            verify_consistency((m as u64, &root(&tree[..m])), (size, &top), &proof).unwrap();
            for e in m..=n {
                let proof = range_proof(tree, m as u64..e as u64, size).unwrap();
                assert_eq!(verify_range(&tree[m..e], m as u64, size, &proof), Ok(top));
            }
        }
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let tree = leaves(5);
    assert!(matches!(inclusion_proof(&tree[..], 5, 5), Err(MerkleError::OutOfRange { .. })));
    assert!(matches!(consistency_proof(&tree[..], 6, 5), Err(MerkleError::OutOfRange { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "the very thing that is refused")]
    let reversed = range_proof(&tree[..], 3..2, 5);
    assert!(matches!(reversed, Err(MerkleError::OutOfRange { .. })));
    assert_eq!(
        inclusion_proof(&tree[..], 0, 6),
        Err(MerkleError::MissingNode(Subtree { level: 1, index: 2 }))
    );
    let mut frontier = Frontier::load(&tree[..], 5).unwrap();
    for level in [1, 63, 64, u32::MAX] {
        assert!(frontier.append_subtree(level, Hash32::ZERO).is_err(), "{level}");
    }
    assert!(frontier.append_subtree(0, leaf(&tree[0])).is_ok());
}

#[test]
fn the_largest_sizes_do_not_overflow() {
    let (size, any) = (u64::MAX, Hash32::ZERO);
    assert_eq!(tiles(0, size).count(), 64);
    assert_eq!(tiles(1, size).count(), 126);
    for index in [0, 1, size / 2, size - 1] {
        let proof = vec![any; inclusion_path(index, size).len()];
        let verdict = verify_inclusion(&any, index, size, &any, &proof);
        assert!(matches!(verdict, Err(MerkleError::RootMismatch { .. })));
        let proof = vec![any; consistency_path(index, size).len()];
        let verdict = verify_consistency((index, &any), (size, &any), &proof);
        assert!(matches!(verdict, Err(MerkleError::RootMismatch { .. })));
        let proof = RangeProof {
            left: vec![any; tiles(0, index).count()],
            right: vec![any; tiles(index + 1, size).count()],
        };
        assert!(verify_range(&[any], index, size, &proof).is_ok());
        let mut fold = RangeFold::new(index..index + 1, size, &proof).unwrap();
        fold.push(&any).unwrap();
        assert!(matches!(fold.push(&any), Err(MerkleError::WrongLeaves { .. })));
    }
    let full = RangeProof { left: vec![any; 64], right: vec![] };
    let mut fold = RangeFold::new(size..size, size, &full).unwrap();
    assert!(matches!(fold.push(&any), Err(MerkleError::WrongLeaves { .. })));
}

/// A tree of up to 200 leaves and two places in it, the first not after the second.
fn tree_and_places() -> impl Strategy<Value = (Vec<Hash32>, usize, usize)> {
    (1_usize..200)
        .prop_flat_map(|n| (0..n, 0..=n).prop_map(move |(a, b)| (n, a, b)))
        .prop_map(|(n, a, b)| (leaves(n), a.min(b), a.max(b)))
}

proptest! {
    #[test]
    fn tiles_are_the_fewest_aligned_subtrees(from in 0_u64..5000, len in 0_u64..5000) {
        let found: Vec<_> = tiles(from, from + len).collect();
        let mut at = from;
        for tile in &found {
            prop_assert_eq!(tile.leaves().start, at);
            at = tile.leaves().end;
        }
        prop_assert_eq!(at, from + len);
        // Maximal: no two neighbours are the two halves of an aligned subtree.
        for pair in found.windows(2) {
            let halves = pair[0].level == pair[1].level && pair[0].index % 2 == 0;
            prop_assert!(!halves, "{:?}", pair);
        }
    }

    #[test]
    fn a_range_proof_holds_for_its_leaves_alone(
        (tree, first, end) in tree_and_places(),
        at in any::<prop::sample::Index>(),
    ) {
        let (size, top) = (tree.len() as u64, root(&tree));
        let proof = range_proof(&tree[..], first as u64..end as u64, size).unwrap();
        let window = &tree[first..end];
        prop_assert_eq!(verify_range(window, first as u64, size, &proof), Ok(top));

        // One hash changed, wherever it stands.
        let (mut window, mut forged) = (window.to_vec(), proof.clone());
        let count = window.len() + proof.left.len() + proof.right.len();
        let target = window.iter_mut().chain(&mut forged.left).chain(&mut forged.right);
        let target = target.into_iter().nth(at.index(count)).unwrap();
        *target = flip(*target);
        prop_assert_ne!(verify_range(&window, first as u64, size, &forged), Ok(top));

        let mut longer = proof.clone();
        longer.right.push(Hash32::ZERO);
        prop_assert!(RangeFold::new(first as u64..end as u64, size, &longer).is_err());
        let fold = RangeFold::new(first as u64..end as u64, size, &proof).unwrap();
        prop_assert_eq!(fold.root().is_err(), end > first, "a range without its leaves");
    }

    #[test]
    fn an_inclusion_proof_holds_for_its_leaf_alone(
        (tree, index, other) in tree_and_places(),
        at in any::<prop::sample::Index>(),
    ) {
        let index = index.min(tree.len() - 1);
        let (size, top) = (tree.len() as u64, root(&tree));
        let proof = inclusion_proof(&tree[..], index as u64, size).unwrap();
        prop_assert_eq!(&proof, &naive_path(index, &tree));
        let verify = |leaf: &Hash32, index: usize, size: u64, proof: &[Hash32]| {
            verify_inclusion(leaf, index as u64, size, &top, proof)
        };
        prop_assert_eq!(verify(&tree[index], index, size, &proof), Ok(()));
        prop_assert!(verify(&flip(tree[index]), index, size, &proof).is_err());
        prop_assert_eq!(verify(&tree[index], other, size, &proof).is_ok(), other == index);
        prop_assert!(verify(&tree[index], index, size, &[&proof[..], &[top]].concat()).is_err());
        if !proof.is_empty() {
            let mut forged = proof.clone();
            let at = at.index(forged.len());
            forged[at] = flip(forged[at]);
            prop_assert!(verify(&tree[index], index, size, &forged).is_err());
            prop_assert!(verify(&tree[index], index, size, &proof[1..]).is_err());
        }
    }

    #[test]
    fn a_consistency_proof_holds_for_an_extension_alone(
        (tree, old, new) in tree_and_places(),
        at in any::<prop::sample::Index>(),
    ) {
        let (old_root, new_root) = (root(&tree[..old]), root(&tree[..new]));
        let (old, new) = (old as u64, new as u64);
        let proof = consistency_proof(&tree[..], old, new).unwrap();
        let verify = |old_root: &Hash32, new_root: &Hash32, proof: &[Hash32]| {
            verify_consistency((old, old_root), (new, new_root), proof)
        };
        prop_assert_eq!(verify(&old_root, &new_root, &proof), Ok(()));
        prop_assert!(verify(&flip(old_root), &new_root, &proof).is_err());
        // Nothing is claimed about what grew out of nothing.
        prop_assert_eq!(verify(&old_root, &flip(new_root), &proof).is_ok(), old == 0);
        if !proof.is_empty() {
            let mut forged = proof.clone();
            let at = at.index(forged.len());
            forged[at] = flip(forged[at]);
            prop_assert!(verify(&old_root, &new_root, &forged).is_err());
            prop_assert!(verify(&old_root, &new_root, &proof[1..]).is_err());
        }
    }

    #[test]
    fn a_frontier_takes_leaves_and_subtrees_alike(
        (tree, first, end) in tree_and_places(),
    ) {
        let mut frontier = Frontier::load(&tree[..], first as u64).unwrap();
        for tile in tiles(first as u64, end as u64) {
            frontier.append_subtree(tile.level, tree.root_of(tile).unwrap()).unwrap();
        }
        for event_hash in &tree[end..] {
            frontier.append(event_hash);
        }
        prop_assert_eq!(frontier.size(), tree.len() as u64);
        prop_assert_eq!(frontier.root(), naive_root(&tree));
    }

    #[test]
    fn pieces_of_a_range_are_folded_apart(
        (tree, first, end) in tree_and_places(),
        cut in any::<prop::sample::Index>(),
    ) {
        let size = tree.len() as u64;
        let proof = range_proof(&tree[..], first as u64..end as u64, size).unwrap();
        let cut = first + cut.index(end - first + 1);
        let mut fold = RangeFold::new(first as u64..end as u64, size, &proof).unwrap();
        for piece in [first..cut, cut..end] {
            let mut tiled = TileFold::from(piece.start as u64);
            tree[piece.clone()].iter().for_each(|hash| tiled.append(hash));
            let expected: Vec<(u32, Hash32)> = tiles(piece.start as u64, piece.end as u64)
                .map(|tile| (tile.level, tree.root_of(tile).unwrap()))
                .collect();
            prop_assert_eq!(tiled.tiles(), &expected[..]);
            for (level, root) in tiled.tiles() {
                fold.push_subtree(*level, *root).unwrap();
            }
        }
        prop_assert!(fold.clone().push_subtree(0, Hash32::ZERO).is_err(), "one leaf too many");
        prop_assert_eq!(fold.root(), Ok(root(&tree)));
    }
}

/// What the edge of a tree hands out on the way, by name.
fn grown(count: usize) -> (Edge, std::collections::HashMap<TileId, Hash32>) {
    let (mut edge, mut whole) = (Edge::default(), vec![]);
    for hash in leaves(count) {
        edge.append(&hash, &mut whole);
    }
    let tiles = whole.iter().map(|tile| (tile.id, tile.root)).collect();
    (edge, tiles)
}

#[test]
fn an_edge_hands_out_every_whole_tile_once_and_keeps_the_root() {
    let all = leaves(66_000);
    let (mut edge, mut whole) = (Edge::default(), vec![]);
    let mut frontier = Frontier::default();
    for (n, hash) in (1..).zip(&all) {
        edge.append(hash, &mut whole);
        frontier.append(hash);
        assert_eq!(edge.size(), n);
        if !(600..=65_500).contains(&n) {
            assert_eq!(edge.root(), frontier.root(), "at {n}");
        }
    }
    let of_level = |level| whole.iter().filter(|tile| tile.id.level == level).count();
    assert_eq!((of_level(0), of_level(1), whole.len()), (257, 1, 258));
    for tile in &whole {
        let (first, count) = tile.id.leaves();
        let leaves = &all[first as usize..(first + count) as usize];
        assert_eq!(tile.root, root(leaves), "{:?}", tile.id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The edge of any size is found again from the tiles and the leaves after the last whole one.
    #[test]
    fn an_edge_comes_back_from_its_rows(size in 0_usize..3_000) {
        let (edge, tiles) = grown(size);
        let rows = (0..ROWS).map(|row| {
            Edge::span(size as u64, row)
                .map(|i| match row {
                    0 => leaf(&leaves(size)[i as usize]),
                    row => tiles[&TileId { level: row - 1, index: i }],
                })
                .collect::<Vec<_>>()
        });
        let again = Edge::from_rows(rows.collect()).unwrap();
        prop_assert_eq!(again.size(), size as u64);
        prop_assert_eq!(again.root(), root(&leaves(size)));
        for row in 0..ROWS {
            prop_assert_eq!(again.row(row), edge.row(row));
        }
    }

    /// Every perfect subtree is a run of hashes of one tile.
    #[test]
    fn a_subtree_lies_in_one_tile(level in 0_u32..40, index in 0_u64..1_000_000) {
        let subtree = Subtree { level, index };
        let (tile, at) = TileId::of(subtree);
        prop_assert!(at.end <= TILE_WIDTH);
        prop_assert_eq!(at.len(), 1 << (level % TILE_HEIGHT));
        let (first, _) = tile.leaves();
        let place = TILE_HEIGHT * tile.level;
        prop_assert_eq!(first + ((at.start as u64) << place), subtree.leaves().start);
        let (parent, at) = tile.parent();
        prop_assert_eq!(parent.leaves().0 + ((at as u64) << (TILE_HEIGHT * parent.level)), first);
    }
}

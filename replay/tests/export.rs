//! Export of time windows: the right events, the same bytes, in one go or resumed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Story, retries_and_a_cancel, tenant};
use futures::TryStreamExt as _;
use stella_domain::time::Timestamp;
use stella_replay::export::{ExportError, Window, WindowError, chunks, write_window};
use stella_verify::ndjson::verify_reader;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(test)
}

fn last_recorded_at(story: &Story) -> Timestamp {
    story.commits.last().unwrap().recorded_at
}

fn after(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_micros() + 1)
}

#[test]
fn a_window_is_what_lies_between_its_times() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        let (first, last) = (&story.commits[2], &story.commits[6]);
        for (from, first_seq) in [
            (Timestamp::ZERO, 0),
            (first.recorded_at, first.seq),
            (after(story.commits[1].recorded_at), first.seq),
        ] {
            let window = Window::resolve(&*ledger, &tenant(), from, last.recorded_at).await;
            let window = window.unwrap();
            assert_eq!((window.first_seq, window.end_seq), (first_seq, last.seq), "{from}");
            assert_eq!(window.events(), last.seq - first_seq);

            let mut written = vec![];
            let mut reached = 0;
            let (at, progress) = (window.first_seq, &mut |seq| reached = seq);
            write_window(ledger.clone(), tenant(), window, at, &mut written, progress)
                .await
                .unwrap();
            let mut expected = String::new();
            let inside = story.commits.iter().filter(|c| (first_seq..last.seq).contains(&c.seq));
            inside.for_each(|commit| commit.write_ndjson(&mut expected));
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            assert_eq!(reached, last.seq);
            verify_reader(expected.as_bytes()).unwrap();
        }
    });
}

#[test]
fn open_and_upside_down_windows_are_refused_and_empty_ones_are_not() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        let end = last_recorded_at(&story);
        let resolve = async |from, to| Window::resolve(&*ledger, &tenant(), from, to).await;
        assert!(matches!(resolve(end, after(end)).await, Err(WindowError::Open { .. })));
        assert!(matches!(resolve(after(end), end).await, Err(WindowError::FromAfterTo { .. })));
        let window = resolve(end, end).await.unwrap();
        assert_eq!((window.events(), window.first_seq), (0, story.next_seq() - 1));
        let chunks = chunks(ledger.clone(), tenant(), window, window.first_seq);
        assert!(chunks.try_collect::<Vec<_>>().await.unwrap().is_empty());
    });
}

#[test]
fn an_export_goes_on_where_it_broke_off() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        let end = last_recorded_at(&story);
        let window = Window::resolve(&*ledger, &tenant(), Timestamp::ZERO, end).await.unwrap();
        let text = story.ndjson();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for seq in 0..=window.end_seq {
            let chunks = chunks(ledger.clone(), tenant(), window, seq);
            let chunks: Vec<_> = chunks.try_collect().await.unwrap();
            let rest: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
            assert_eq!(rest, lines[seq as usize..window.end_seq as usize].concat(), "{seq}");
            assert!(chunks.last().is_none_or(|chunk| chunk.next_seq == window.end_seq));
        }
        let outside = chunks(ledger.clone(), tenant(), window, window.end_seq + 1);
        let outside = outside.try_collect::<Vec<_>>().await;
        assert!(matches!(outside, Err(ExportError::ResumeOutside { .. })));
    });
}

#[test]
fn a_long_window_comes_in_chunks_and_a_shrunken_ledger_is_noticed() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut story = Story::open();
        (0..1_500).for_each(|_| story.seal("again"));
        let ledger = story.in_sqlite(directory.path()).await;
        let end = last_recorded_at(&story);
        let mut window = Window::resolve(&*ledger, &tenant(), Timestamp::ZERO, end).await.unwrap();
        let all: Vec<_> = chunks(ledger.clone(), tenant(), window, 0).try_collect().await.unwrap();
        assert!(all.len() > 1 && all.iter().all(|chunk| chunk.text.len() < 300 * 1024));
        let text: String = all.into_iter().map(|chunk| chunk.text).collect();
        assert_eq!(verify_reader(text.as_bytes()).unwrap().events, window.events());

        window.end_seq = story.next_seq() + 5;
        let lost = chunks(ledger, tenant(), window, 0).try_collect::<Vec<_>>().await;
        assert!(matches!(lost, Err(ExportError::Shrunk { at, .. }) if at == story.next_seq()));
    });
}

#![allow(missing_docs, clippy::unwrap_used)]
#[path = "../tests/support/mod.rs"]
mod support;
use std::time::Instant;
use support::*;
fn main() {
    let mut history = History::new();
    let n: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(40_000);
    for i in 0..n {
        history.start(0, (i % 4) as u8, 0);
        if i % 8 == 7 {
            history.finish();
        }
    }
    let events = history.head.next_seq;
    println!("{events} events, {} commits", history.commits.len());
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let ledger = MemoryLedger::of(&history.commits);
        let t = Instant::now();
        let recorded = history.recorded();
        println!("decode alone {:.0}/s", events as f64 / t.elapsed().as_secs_f64());
        let p = projections(dir.path(), ledger.clone());
        let t = Instant::now();
        p.verify(&tenant()).await.unwrap();
        println!("open = rebuild {:.0}/s", events as f64 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        p.rebuild(&tenant(), &|_| {}).await.unwrap();
        println!(
            "rebuild {:.0}/s, file {} B/event",
            events as f64 / t.elapsed().as_secs_f64(),
            std::fs::metadata(dir.path().join("acme.db")).unwrap().len() / events
        );
        let t = Instant::now();
        let ids: Vec<_> = history.runs.iter().step_by(7).take(5000).map(|r| r.0.clone()).collect();
        for id in &ids {
            p.run(&tenant(), id).await.unwrap().unwrap();
        }
        println!("point reads {:.0}/s", ids.len() as f64 / t.elapsed().as_secs_f64());
        p.close().await;
        drop(p);
        let dir = tempfile::tempdir().unwrap();
        let p = projections(dir.path(), MemoryLedger::of(&[]));
        for size in [1usize, 16, 256] {
            let _ = size;
        }
        let t = Instant::now();
        let mut rest = &recorded[..recorded.len() / 4];
        let count = rest.iter().map(|r| r.events.len()).sum::<usize>();
        let mut batches = 0;
        while !rest.is_empty() {
            let s = 32.min(rest.len());
            p.apply(&tenant(), &rest[..s]).await.unwrap();
            rest = &rest[s..];
            batches += 1;
        }
        println!(
            "live, batches of 32 commits: {:.0} events/s, {:.0} us a batch",
            count as f64 / t.elapsed().as_secs_f64(),
            t.elapsed().as_micros() as f64 / f64::from(batches)
        );
    });
}

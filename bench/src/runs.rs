//! Rows (c) and (d): whole runs over HTTP, and reads beside them.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hyper::{Method, StatusCode};
use serde::Deserialize;

use crate::{Failure, server::Server};

/// What clients saw.
pub(crate) struct Runs {
    pub(crate) runs: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram<u64>,
    /// The last run of each client, and the seq at which it ended.
    pub(crate) last_runs: Vec<(String, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunAnswer {
    run_id: String,
    status: String,
    seq: u64,
}

/// Start three-step runs from `clients` connections, each waiting for its run's end, until `until`
/// says so or at `rate` runs per second in all.
pub(crate) async fn run_load(
    server: &Server,
    clients: usize,
    time: Duration,
    rate: Option<f64>,
) -> Result<Runs, Failure> {
    let started = Instant::now();
    let deadline = started + time;
    let pause = rate.map(|rate| Duration::from_secs_f64(clients as f64 / rate));
    let mut tasks = vec![];
    for _ in 0..clients {
        let mut client = server.client().await?;
        tasks.push(tokio::spawn(async move {
            let mut latency = latencies().map_err(|e| e.to_string())?;
            let (mut runs, mut last_run) = (0_u64, None);
            let mut ticks = pause.map(tokio::time::interval);
            while Instant::now() < deadline {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                let sent = Instant::now();
                let body = r#"{"dagId":"three","inputs":{}}"#;
                let answer = client.call(Method::POST, "/runs?wait=30s", body).await;
                let (status, body) = answer.map_err(|e| e.to_string())?;
                let run: RunAnswer = serde_json::from_slice(&body)
                    .map_err(|e| format!("{status} {e}: {}", String::from_utf8_lossy(&body)))?;
                if status != StatusCode::CREATED || run.status != "succeeded" {
                    return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
                }
                latency.saturating_record(micros(sent));
                runs += 1;
                last_run = Some((run.run_id, run.seq));
            }
            Ok::<_, String>((runs, latency, last_run))
        }));
    }
    let mut all =
        Runs { runs: 0, elapsed: Duration::ZERO, latency: latencies()?, last_runs: vec![] };
    for task in tasks {
        let (runs, latency, last_run) = task.await??;
        all.runs += runs;
        all.latency.add(latency)?;
        all.last_runs.extend(last_run);
    }
    all.elapsed = started.elapsed();
    Ok(all)
}

/// Read runs from a few connections for `time`; the latencies in microseconds.
pub(crate) async fn read_load(
    server: &Server,
    runs: &[(String, u64)],
    time: Duration,
) -> Result<Histogram<u64>, Failure> {
    const CLIENTS: usize = 4;
    const READS_PER_S: u64 = 100;
    // Once for the projections to have seen them all.
    for (run_id, seq) in runs {
        let path = format!("/runs/{run_id}?minSeq={seq}");
        let (status, _) = server.client().await?.call(Method::GET, &path, "").await?;
        if status != StatusCode::OK {
            return Err(format!("GET {path}: {status}").into());
        }
    }
    let deadline = Instant::now() + time;
    let mut tasks = vec![];
    for client_no in 0..CLIENTS {
        let mut client = server.client().await?;
        let ids: Vec<String> = runs.iter().skip(client_no).map(|(id, _)| id.clone()).collect();
        tasks.push(tokio::spawn(async move {
            let mut latency = latencies().map_err(|e| e.to_string())?;
            let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / READS_PER_S));
            for run_id in ids.iter().cycle() {
                ticks.tick().await;
                if Instant::now() >= deadline {
                    break;
                }
                let path = format!("/runs/{run_id}");
                let sent = Instant::now();
                let answer = client.call(Method::GET, &path, "").await;
                let (status, _) = answer.map_err(|e| e.to_string())?;
                if status != StatusCode::OK {
                    return Err(format!("GET {path}: {status}"));
                }
                latency.saturating_record(micros(sent));
            }
            Ok::<_, String>(latency)
        }));
    }
    let mut all = latencies()?;
    for task in tasks {
        all.add(task.await??)?;
    }
    Ok(all)
}

/// Microseconds, up to a minute, to three digits.
pub(crate) fn latencies() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_max(60_000_000, 3)?)
}

pub(crate) fn percentile_ms(latency: &Histogram<u64>, percentile: f64) -> f64 {
    latency.value_at_percentile(percentile) as f64 / 1000.0
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
